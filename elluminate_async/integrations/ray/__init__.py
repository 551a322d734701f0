"""Ray: one limit for all workers of a cluster. Needs the extra ``ray``."""

from elluminate_async.integrations.ray.share import RayShare

__all__ = ["RayShare"]
