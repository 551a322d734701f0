"""Every method of the installed official client, blocking or awaited. Prints ``ok``."""

import sys

import elluminate
from elluminate import Client

import every_resource
import whole
from calling import Caller
from every_resource import EARLY

# These, and what of a client calls them, have programs of their own.
ELSEWHERE = ("scenario", "agent", "wait_for_evaluation")


def is_elsewhere(name):
    return any(part in name for part in ELSEWHERE)


(half,) = sys.argv[1:]
whole.watch()
call = Caller(awaits=half == "awaited")
client = Client() if not call.awaits or EARLY else elluminate.AsyncClient()
found = every_resource.resources(client)
assert len(found) >= 10, found
classes = {type(client)} | {type(one) for name, one in found.items() if not is_elsewhere(name)}
made = every_resource.flow(client, call, half)
if not EARLY:
    import every_model

    every_model.flow(client, call, half, made)
    call(client, "close")
    classes |= {*every_model.MODELS}
left = {name for name in call.left(*classes) if not is_elsewhere(name)}
assert not left, left
print("ok")
