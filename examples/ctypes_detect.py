"""The C library from another language, here Python's ctypes: ctypes_detect.py LIBRARY WEIGHTS RECORDING"""

import sys
from ctypes import CDLL, POINTER, Structure, byref, c_char_p, c_double, c_float, c_int64, c_size_t, c_void_p

import soundfile


class Event(Structure):
    _fields_ = (("label", c_char_p), ("index", c_int64), ("onset", c_double), ("offset", c_double), ("score", c_float))


library = CDLL(sys.argv[1])
library.mtfa_last_error.restype = c_char_p
detector, result, events, count = c_void_p(), c_void_p(), POINTER(Event)(), c_size_t()


def call(name, *arguments):
    if getattr(library, name)(*arguments):
        sys.exit(library.mtfa_last_error().decode())


samples, rate = soundfile.read(sys.argv[3], dtype="float32", always_2d=True)
mono = samples.mean(axis=1).ctypes.data_as(c_void_p)
call("mtfa_open", sys.argv[2].encode(), None, byref(detector))
call("mtfa_detect", detector, mono, c_size_t(len(samples)), c_int64(rate), byref(result))
call("mtfa_result_events", result, byref(events), byref(count))
for event in events[: count.value]:
    print(f"{event.onset:.2f}\t{event.offset:.2f}\t{event.label.decode()}\t{event.score:.3f}")
