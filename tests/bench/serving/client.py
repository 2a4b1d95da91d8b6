"""A client that asks as stock git does and lets the answers run to nowhere."""

import base64
import http.client
import socket
import threading
import time

from .servers import NAME

BUFFER_BYTES = 1 << 20


def pkt(text):
    return f"{len(text) + 5:04x}{text}\n".encode()


def fetch_request(wants, haves=(), *more):
    """A v2 fetch with everything a stock client says."""
    out = [pkt("command=fetch"), pkt("agent=bench"), pkt("object-format=sha1"), b"0001"]
    out += [pkt(word) for word in ("thin-pack", "no-progress", "include-tag", "ofs-delta", *more)]
    out += [pkt(f"want {want}") for want in wants] + [pkt(f"have {have}") for have in haves] + [pkt("done"), b"0000"]
    return b"".join(out)


def ls_refs_request(*prefixes):
    """A v2 `ls-refs` as stock git sends it."""
    out = [pkt("command=ls-refs"), pkt("agent=bench"), pkt("object-format=sha1"), b"0001"]
    out += [pkt("peel"), pkt("symrefs"), pkt("unborn")] + [pkt(f"ref-prefix {prefix}") for prefix in prefixes]
    return b"".join(out) + b"0000"


def push_request(old, new, ref, pack):
    """A push of one ref."""
    command = f"{old} {new} {ref}\0 report-status side-band-64k agent=bench".encode()
    return f"{len(command) + 4:04x}".encode() + command + b"0000" + pack


def authorization(secret):
    return "Basic " + base64.b64encode(f"{NAME}:{secret}".encode()).decode()


class Answer:
    """What came of one request."""

    def __init__(self, size, first_secs, secs):
        self.size, self.first_secs, self.secs = size, first_secs, secs


def drain(server, path, body=None, service="upload-pack", version=2):
    """One request on a connection of its own; the answer is read to its end and thrown away.

    The first byte of the pack is waited for, not that of the answer.
    """
    host, port = server.host.split(":")
    head = [f"{'POST' if body is not None else 'GET'} {path} HTTP/1.1", f"Host: {server.host}", "Connection: close",
            f"Authorization: {authorization(server.token)}"]
    if body is not None:
        head += [f"Content-Type: application/x-git-{service}-request", f"Content-Length: {len(body)}"]
    if version:
        head.append(f"Git-Protocol: version={version}")
    buffer = memoryview(bytearray(BUFFER_BYTES))
    start = time.monotonic()
    with socket.create_connection((host, int(port))) as link:
        link.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + (body or b""))
        begun, tail, first_secs, size = b"", b"", None, 0
        while got := link.recv_into(buffer):
            size += got
            if first_secs is None:
                begun += buffer[:got]
                if body is None or service != "upload-pack" or b"PACK" in begun:
                    first_secs = time.monotonic() - start
            tail = tail[-32:] + bytes(buffer[max(0, got - 32):got])
    secs = time.monotonic() - start
    if b" 200 " not in begun[:20] or b"ERR " in begun[:600]:
        raise SystemExit(f"{server.title} {path}: {begun[:600]!r}")
    if service == "upload-pack" and body is not None and b"0000" not in tail:
        raise SystemExit(f"{server.title} {path}: the answer was cut off: {tail!r}")
    return Answer(size, first_secs if first_secs is not None else secs, secs)


def at_once(count, run):
    """Runs `run` `count` times at the same time; wall time of all."""
    failures = []

    def guarded():
        try:
            run()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.monotonic() - start


class Connection:
    """A connection that stays open for many small requests."""

    def __init__(self, server, secret):
        self.server, self.secret, self.link = server, secret, http.client.HTTPConnection(server.host)

    def post(self, path, body, service="upload-pack", version=2):
        head = {"Content-Type": f"application/x-git-{service}-request"}
        if self.secret:
            head["Authorization"] = authorization(self.secret)
        if version:
            head["Git-Protocol"] = f"version={version}"
        self.link.request("POST", path, body, head)
        answer = self.link.getresponse()
        content = answer.read()
        if answer.status != 200 or b"ERR " in content[:20]:
            raise SystemExit(f"{self.server.title} {path}: {answer.status} {content[:600]!r}")
        return content

    def close(self):
        self.link.close()
