"""A small cluster of Ray, in the care of the process that begins it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def begin(folder: str, *, cpus: int = 2, store_mib: int = 100) -> Any:
    """Have this process be the driver of one: on loopback, quiet, and gone with it.

    Args:
        folder: For its files; its sockets need a path that is short.
        cpus: That it takes to be there.
        store_mib: For blocks, of which some are there at once, each up to 128 MB. With too little
            it stands still.

    Returns:
        The module ``ray``.
    """
    ray: Any = import_module("ray")
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=store_mib << 20,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )
    return ray
