"""Decodes a body while it arrives: decode.py CODING. Bytes on the standard input, what they decode to on the standard output, at once.

Ends with 0 after a whole body, with 3 after a part of one, with 4 for bytes that are none.
"""

import os
import sys
import zlib

import brotli
import zstandard


class Brotli:
    """`brotli.Decompressor` with the interface of zlib."""

    def __init__(self):
        self.inner, self.unused_data = brotli.Decompressor(), b""

    def decompress(self, data):
        decoded = self.inner.process(data)
        # A call returns a buffer of it, at most.
        while not self.inner.is_finished() and (more := self.inner.process(b"")):
            decoded += more
        return decoded

    @property
    def eof(self):
        return self.inner.is_finished()


DECODERS = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "br": Brotli,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


def main(coding):
    decoder = DECODERS[coding]()
    try:
        while data := os.read(0, 65536):
            if decoder.eof:
                return 4
            os.write(1, decoder.decompress(data))
            if decoder.unused_data:
                return 4
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        print(error, file=sys.stderr)
        return 4
    return 0 if decoder.eof else 3


sys.exit(main(sys.argv[1]))
