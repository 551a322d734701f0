"""Uploads that were taken in part."""

from __future__ import annotations

from typing import Any

from elluminate_async.errors.base import ElluminateError


class PartialUploadError(ElluminateError):
    """Some of an upload was not taken. The rest is stored, so do not send the whole again.

    Attributes:
        upload: The `AgentResultsUpload`: what was stored, and in its ``errors`` what was not.
    """

    def __init__(self, message: str, *, upload: Any) -> None:
        super().__init__(message)
        self.upload = upload
