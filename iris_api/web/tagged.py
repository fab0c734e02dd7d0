"""Content that many ask for and that rarely changes: compressed once, and not sent twice."""

from __future__ import annotations

import gzip
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from iris_api.web.flask_app import BytesResponse

if TYPE_CHECKING:
    from flask import Request, Response


class Tagged:
    """A body with its strong ETags, one for it as it is and one for it compressed."""

    def __init__(self, body: bytes, media_type: str) -> None:
        self.body = body
        self.media_type = media_type
        self.digest = hashlib.sha256(body).hexdigest()[:32]

    @cached_property
    def packed(self) -> bytes:
        """The body compressed, always to the same bytes: once in each process that is asked."""
        return gzip.compress(self.body, mtime=0)

    def answer(self, request: Request) -> Response:
        """The body in the encoding that the client takes, or 304 if it has it."""
        packed = request.accept_encodings.best_match(("gzip", "identity")) == "gzip"
        held = request.if_none_match
        if any(held.contains_weak(self.digest + encoding) for encoding in ("", "-gzip")):
            response = BytesResponse(b"", 304, self.media_type)
            del response.headers["Content-Length"], response.headers["Content-Type"]
        else:
            response = BytesResponse(self.packed if packed else self.body, 200, self.media_type)
            if packed:
                response.headers["Content-Encoding"] = "gzip"
        response.headers["ETag"] = f'"{self.digest}{"-gzip" if packed else ""}"'
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = "no-cache"
        return response
