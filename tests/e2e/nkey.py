"""User keys as NATS writes them: base32 over prefix, key and CRC-16, and signatures of nonces."""
import base64
import struct

from nacl.signing import SigningKey

SEED, USER, ACCOUNT, SERVER = 18 << 3, 20 << 3, 0, 13 << 3


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def encode(raw):
    return base64.b32encode(raw + struct.pack("<H", crc16(raw))).decode().rstrip("=")


class Key:
    def __init__(self, prefix=USER):
        self.signing = SigningKey.generate()
        self.public = encode(bytes([prefix]) + bytes(self.signing.verify_key))
        self.seed = encode(bytes([SEED | prefix >> 5, (prefix & 31) << 3]) + bytes(self.signing))

    def sign(self, nonce, standard=False):
        signature = self.signing.sign(nonce.encode()).signature
        encoder = base64.b64encode if standard else base64.urlsafe_b64encode
        return encoder(signature).decode().rstrip("" if standard else "=")


def connect(server, key, **options):
    """A raw client of server that has proved to own key."""
    c = server.client()
    c.send_connect(nkey=key.public, sig=key.sign(c.info["nonce"]), **options)
    c.ping()
    return c
