"""The commands of ``mtfa-fast``, one file each. Nothing heavy is imported before a command runs."""
