"""DCASE 2017 Task 2: sources, recipes, mixtures and event lists, and the chunks that training cuts. Torch-free."""
