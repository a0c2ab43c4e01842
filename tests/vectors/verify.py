#!/usr/bin/env python3
"""Checks the known-answer vectors of pgveil's formats with an independent implementation (pyca/cryptography).

    python3 tests/vectors/verify.py            # needs: pip install cryptography

Written from docs/sealed-value.md, not from pgveil's code. It shares nothing with it and changes nothing.
Exit status 0 when every vector agrees.
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).resolve().parent


def prefixed(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part


def equality_term(vector: dict) -> bytes:
    context = vector["context"]
    if "column" in context:
        kind, name = 0, struct.pack(">I", context["column"])
    else:
        kind, name = 1, context["group"].encode()
    message = b"pgveil eq v1\0" + bytes([kind]) + prefixed(name) + bytes.fromhex(vector["canonical"])
    return hmac.digest(bytes.fromhex(vector["index_key"]), message, "sha256")[:16]


def envelope(vector: dict) -> bytes:
    terms = bytes.fromhex(vector.get("equality_term", ""))
    bits = 1 if terms else 0
    for bit, numbered in zip([8, 16], vector.get("numbered_terms", [])):
        bits |= bit
        terms += struct.pack(">I", numbered["number"]) + bytes.fromhex(numbered["term"])
    header = b"PGV\x01" + struct.pack(">IQB", vector["column_id"], vector["dek_id"], bits) + terms
    nonce = bytes.fromhex(vector["nonce"])
    key = AESGCM(bytes.fromhex(vector["dek"]))
    return header + nonce + key.encrypt(nonce, bytes.fromhex(vector["plaintext"]), header)


def opened(vector: dict, value: bytes) -> bytes:
    """Takes the envelope apart by its own header, as a reader does."""
    magic, column, dek, bits = struct.unpack(">4sIQB", value[:17])
    assert (magic, column, dek) == (b"PGV\x01", vector["column_id"], vector["dek_id"])
    body = 17 + (16 if bits & 1 else 0) + (20 if bits & 8 else 0) + (20 if bits & 16 else 0)
    key = AESGCM(bytes.fromhex(vector["dek"]))
    return key.decrypt(value[body : body + 12], value[body + 12 :], value[:body])


def binding(vector: dict) -> bytes:
    context = (
        b"pgveil key v1\0"
        + prefixed(vector["scope"].encode())
        + struct.pack(">Q", vector["key_id"])
        + prefixed(vector["purpose"].encode())
    )
    assert context.hex() == vector["context"], "context"
    return bytes.fromhex(vector["key"]) + hashlib.sha256(context).digest()


def check_envelope(vector: dict) -> None:
    expected = bytes.fromhex(vector["envelope"])
    assert envelope(vector) == expected, "sealing"
    assert opened(vector, expected).hex() == vector["plaintext"], "opening"
    for at in range(17, len(expected)):
        changed = bytearray(expected)
        changed[at] ^= 1
        try:
            opened(vector, bytes(changed))
        except InvalidTag:
            continue
        raise AssertionError(f"byte {at} is not authenticated")


def check_equality_term(vector: dict) -> None:
    assert equality_term(vector).hex() == vector["term"], "term"


def check_payload(vector: dict) -> None:
    assert binding(vector).hex() == vector["payload"], "payload"


CHECKS = {
    "envelopes.json": check_envelope,
    "equality_terms.json": check_equality_term,
    "wrapped_payloads.json": check_payload,
}


def main() -> int:
    failures = 0
    for name, check in CHECKS.items():
        vectors = json.loads((HERE / name).read_text())["vectors"]
        for vector in vectors:
            try:
                check(vector)
            except (AssertionError, InvalidTag) as error:
                failures += 1
                print(f"{name}: {vector['name']}: {error}", file=sys.stderr)
        print(f"{name}: {len(vectors)} vectors")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
