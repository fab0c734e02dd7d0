"""Requests that attack the service, and the good requests around them."""

from __future__ import annotations

import json

from iris_api.web.keys import new_key

Row = dict[str, float]

KEY = new_key()
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ATTACKER_ROW: Row = dict(zip(NAMES, (5.1, 3.5, 1.4, 0.2), strict=True))
SMUGGLED_ROW: Row = dict(zip(NAMES, (6.0, 2.9, 4.5, 1.5), strict=True))
NEXT_ROW: Row = dict(zip(NAMES, (6.7, 3.0, 5.2, 2.3), strict=True))
LABELS = {5.1: "setosa", 6.0: "versicolor", 6.7: "virginica"}
"""Classes of the rows above, by their first value."""
SMUGGLED_ID = "smuggled"
"""Request id of the smuggled request: the log holds it if the service ever answered that."""


def request(
    body: Row | bytes,
    *lines: str,
    request_line: str = "POST /v1/predict HTTP/1.1",
    framed: bool = True,
) -> bytes:
    """A request with the key and, if `framed`, with the right Content-Length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if framed:
        lines = (f"Content-Length: {len(content)}", *lines)
    usual = ("Host: iris", f"X-API-Key: {KEY}", "Content-Type: application/json")
    return "\r\n".join([request_line, *usual, *lines, "", ""]).encode("latin-1") + content


FORGED = ("X-Forwarded-For: 198.51.100.66", "X-Request-Start: t=1.000")
SMUGGLED = request(SMUGGLED_ROW, f"X-Request-ID: {SMUGGLED_ID}", *FORGED)
SMUGGLED_SIZE = len(SMUGGLED)
BODY = json.dumps(ATTACKER_ROW).encode()


def length_then_chunks(*lines: str) -> bytes:
    """CL.TE: a reader of the length sees a body, a reader of the chunks sees a second request."""
    return request(b"0\r\n\r\n" + SMUGGLED, *lines)


def chunks_then_length(*lines: str) -> bytes:
    """TE.CL: a reader of the chunks sees a body, a reader of the length sees a second request."""
    size = f"{len(SMUGGLED):x}\r\n".encode()
    body = size + SMUGGLED + b"\r\n0\r\n\r\n"
    return request(body, f"Content-Length: {len(size)}", *lines, framed=False)


def chunked(body: bytes, *lines: str, request_line: str = "POST /v1/predict HTTP/1.1") -> bytes:
    """A request with Transfer-Encoding and a body that holds its own framing."""
    return request(
        body, f"{TRANSFER_ENCODING}: chunked", *lines, request_line=request_line, framed=False
    )


def chunk(content: bytes, size: str | None = None, end: bytes = b"\r\n") -> bytes:
    """One chunk of a body."""
    return (size or f"{len(content):x}").encode("latin-1") + b"\r\n" + content + end


TRANSFER_ENCODING = "Transfer-Encoding"

OBFUSCATED = {
    "plain": f"{TRANSFER_ENCODING}: chunked",
    "in capitals": "TRANSFER-ENCODING: CHUNKED",
    "without a space": f"{TRANSFER_ENCODING}:chunked",
    "a tab": f"{TRANSFER_ENCODING}:\tchunked",
    "twice": f"{TRANSFER_ENCODING}: chunked\r\n{TRANSFER_ENCODING}: chunked",
    "twice in one": f"{TRANSFER_ENCODING}: chunked, chunked",
    "twice, one wrong": f"{TRANSFER_ENCODING}: chunked\r\n{TRANSFER_ENCODING}: cow",
    "identity": f"{TRANSFER_ENCODING}: identity",
    "chunked, identity": f"{TRANSFER_ENCODING}: chunked, identity",
    "identity, chunked": f"{TRANSFER_ENCODING}: identity, chunked",
    "gzip, chunked": f"{TRANSFER_ENCODING}: gzip, chunked",
    "nothing": f"{TRANSFER_ENCODING}:",
    "nothing, chunked": f"{TRANSFER_ENCODING}: , chunked",
    "almost": f"{TRANSFER_ENCODING}: xchunked",
    "with a parameter": f"{TRANSFER_ENCODING}: chunked;q=1",
    "in quotes": f'{TRANSFER_ENCODING}: "chunked"',
    "a vertical tab": f"{TRANSFER_ENCODING}:\x0bchunked",
    "a NUL": f"{TRANSFER_ENCODING}: chunked\x00",
    "a NUL in the name": f"{TRANSFER_ENCODING}\x00: chunked",
    "a space behind the name": f"{TRANSFER_ENCODING} : chunked",
    "a space before the name": f" {TRANSFER_ENCODING}: chunked",
    "folded": f"{TRANSFER_ENCODING}:\r\n chunked",
    "folded behind another": f"X: y\r\n {TRANSFER_ENCODING}: chunked",
    "behind a bare LF": f"X: y\n{TRANSFER_ENCODING}: chunked",
    "behind a bare CR": f"X: y\r{TRANSFER_ENCODING}: chunked",
    "two CRs": f"{TRANSFER_ENCODING}: chunked\r",
}

LENGTHS = {
    "twice": f"Content-Length: {SMUGGLED_SIZE}\r\nContent-Length: {SMUGGLED_SIZE}",
    "two": f"Content-Length: 0\r\nContent-Length: {SMUGGLED_SIZE}",
    "two, the other route round": f"Content-Length: {SMUGGLED_SIZE}\r\nContent-Length: 0",
    "a list": f"Content-Length: {SMUGGLED_SIZE}, {SMUGGLED_SIZE}",
    "a list of two": f"Content-Length: 0,{SMUGGLED_SIZE}",
    "plus": f"Content-Length: +{SMUGGLED_SIZE}",
    "minus": f"Content-Length: -{SMUGGLED_SIZE}",
    "underscore": f"Content-Length: {str(SMUGGLED_SIZE)[0]}_{str(SMUGGLED_SIZE)[1:]}",
    "a space inside": f"Content-Length: 0 {SMUGGLED_SIZE}",
    "hexadecimal": f"Content-Length: {SMUGGLED_SIZE:#x}",
    "a fraction": f"Content-Length: {SMUGGLED_SIZE}.0",
    "an exponent": "Content-Length: 1e3",
    "nothing": "Content-Length:",
    "superscript": "Content-Length: 0\xb2",
    "a vertical tab": f"Content-Length: \x0b{SMUGGLED_SIZE}",
    "a NUL": f"Content-Length: {SMUGGLED_SIZE}\x00",
    "huge": "Content-Length: 18446744073709551616",
    "5,000 digits": f"Content-Length: {'9' * 5000}",
    "a space behind the name": f"Content-Length : {SMUGGLED_SIZE}",
    "folded": f"Content-Length:\r\n {SMUGGLED_SIZE}",
    "behind a bare CR": f"X: y\rContent-Length: {SMUGGLED_SIZE}",
}

LAST_CHUNK = b"0\r\n\r\n"

HEX_SIZE = f"{len(BODY):x}"

CHUNKS = {
    "no number": chunk(BODY, "zz"),
    "no size": b"\r\n" + BODY + b"\r\n" + LAST_CHUNK + SMUGGLED,
    "plus": chunk(BODY, f"+{HEX_SIZE}") + LAST_CHUNK + SMUGGLED,
    "minus": chunk(BODY, "-1") + LAST_CHUNK + SMUGGLED,
    "0x": chunk(BODY, f"0x{HEX_SIZE}") + LAST_CHUNK + SMUGGLED,
    "underscore": chunk(BODY, f"{HEX_SIZE[0]}_{HEX_SIZE[1:]}") + LAST_CHUNK + SMUGGLED,
    "a space before": chunk(BODY, f" {HEX_SIZE}") + LAST_CHUNK + SMUGGLED,
    "a letter behind": chunk(BODY, f"{HEX_SIZE}g") + LAST_CHUNK + SMUGGLED,
    "wraps at 64 bits": chunk(BODY, f"1{int(HEX_SIZE, 16):016x}") + LAST_CHUNK + SMUGGLED,
    "almost 64 bits": chunk(BODY, "f" * 16) + LAST_CHUNK + SMUGGLED,
    "17 digits": chunk(BODY, "f" * 17) + LAST_CHUNK + SMUGGLED,
    "1,000 digits": chunk(BODY, "f" * 1000) + LAST_CHUNK + SMUGGLED,
    "too short": chunk(BODY, "5") + LAST_CHUNK + SMUGGLED,
    "too long": chunk(BODY, f"{len(BODY) + 4:x}") + LAST_CHUNK + SMUGGLED,
    "no end": chunk(BODY, end=b"") + LAST_CHUNK + SMUGGLED,
    "another end": chunk(BODY, end=b"XX") + LAST_CHUNK + SMUGGLED,
    "LF at the end": chunk(BODY, end=b"\n") + LAST_CHUNK,
    "bare CR in an extension": chunk(BODY, f"{HEX_SIZE};a\rb") + LAST_CHUNK + SMUGGLED,
    "bare LF in an extension": chunk(b"", f"2;a\nxx\r\n{len(SMUGGLED):x}") + SMUGGLED + LAST_CHUNK,
    "a NUL in an extension": chunk(BODY, f"{HEX_SIZE};a=\x00") + LAST_CHUNK,
    "an endless extension": chunk(BODY, f"{HEX_SIZE};" + "a" * 100_000) + LAST_CHUNK,
    "an endless size": chunk(BODY, "0" * 100_000 + HEX_SIZE) + LAST_CHUNK,
    "a length in the trailer": chunk(BODY) + b"0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that is none": chunk(BODY) + b"0\r\nnonsense\r\n\r\n",
    "a folded trailer": chunk(BODY) + b"0\r\nX: y\r\n z\r\n\r\n",
    "LF in the trailer": chunk(BODY) + b"0\r\nX: y\n\r\n\r\n",
    "an endless trailer": chunk(BODY) + b"0\r\nX: " + b"a" * 2_000_000,
    "ten thousand trailers": chunk(BODY) + b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "it stops": chunk(BODY)[:-9],
}


WELL_FRAMED: dict[str, tuple[bytes, int]] = {
    "two chunks": (chunked(chunk(BODY[:9]) + chunk(BODY[9:]) + LAST_CHUNK), 200),
    "a chunk for each byte": (chunked(b"".join(chunk(bytes([c])) for c in BODY) + LAST_CHUNK), 200),
    "extensions": (chunked(chunk(BODY, f'{HEX_SIZE};a;b=c;d="e;\\"f"') + LAST_CHUNK), 200),
    "capitals": (chunked(chunk(BODY, HEX_SIZE.upper()) + LAST_CHUNK), 200),
    "leading zeros": (chunked(chunk(BODY, f"0000{HEX_SIZE}") + LAST_CHUNK), 200),
    "a trailer with a key and an id": (
        chunked(chunk(BODY) + f"0\r\nX-API-Key: x\r\nX-Request-ID: {SMUGGLED_ID}\r\n\r\n".encode()),
        200,
    ),
    "a space behind the length": (
        request(BODY, f"Content-Length: {len(BODY)} ", framed=False),
        200,
    ),
    "headers with underscores": (
        length_then_chunks("Transfer_Encoding: chunked", "Content_Length: 5", "X_API_Key: x"),
        400,
    ),
    "an upgrade": (
        request(ATTACKER_ROW, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        200,
    ),
    "hop by hop": (
        request(ATTACKER_ROW, "Connection: X-API-Key, Content-Length, X-Forwarded-For"),
        200,
    ),
    "no JSON": (request(SMUGGLED), 400),
    "no JSON, in chunks": (chunked(chunk(SMUGGLED) + LAST_CHUNK), 400),
    "a wrong key": (request(SMUGGLED).replace(KEY.encode(), b"x" * len(KEY), 1), 401),
    "a wrong key, in chunks": (
        chunked(chunk(SMUGGLED) + LAST_CHUNK).replace(KEY.encode(), b"x" * len(KEY), 1),
        401,
    ),
    "a wrong path": (request(SMUGGLED, request_line="POST /nowhere HTTP/1.1"), 404),
    "a wrong path, in chunks": (
        chunked(chunk(SMUGGLED) + LAST_CHUNK, request_line="POST /nowhere HTTP/1.1"),
        404,
    ),
    "a wrong method": (request(SMUGGLED, request_line="DELETE /v1/predict HTTP/1.1"), 405),
    "GET with a body": (request(SMUGGLED, request_line="GET /v1/predict HTTP/1.1"), 405),
    "GET with chunks": (
        chunked(chunk(SMUGGLED) + LAST_CHUNK, request_line="GET /nowhere HTTP/1.1"),
        404,
    ),
    "a coded body": (request(SMUGGLED, "Content-Encoding: gzip"), 415),
}
"""Requests whose bodies end where their heads say, and the status of each."""
