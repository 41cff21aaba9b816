"""Passwords and certificates of a broker that wants them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import trustme
from cryptography.hazmat.primitives import serialization

USERNAME: Final = "telemetryflow"
PASSWORD: Final = "a-password-for-tests"
SCRAM_MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
# A listener is named like its protocol.
SECURE_LISTENERS: Final = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
_LOGIN_MODULES: Final = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Security:
    """Files for both ends. SSL wants the client's certificate, SASL_SSL its password."""

    ca_file: Path
    client_cert_file: Path
    client_key_file: Path
    broker_file: Path

    @classmethod
    def create(cls, folder: Path) -> Self:
        """A new authority, and certificates for a broker on 127.0.0.1 and for its client."""
        authority = trustme.CA()
        broker, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client.test")
        files = cls(*(folder / f"{name}.pem" for name in ("ca", "client", "client-key", "broker")))
        authority.cert_pem.write_to_path(str(files.ca_file))
        client.cert_chain_pems[0].write_to_path(str(files.client_cert_file))
        client.private_key_pem.write_to_path(str(files.client_key_file))
        # Kafka reads keys in PKCS8 only.
        key = serialization.load_pem_private_key(
            broker.private_key_pem.bytes(), None
        ).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        files.broker_file.write_bytes(key + broker.cert_chain_pems[0].bytes())
        return files

    def properties(self) -> dict[str, str]:
        """What the broker has to know, beside the addresses of the listeners."""
        known = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.broker_file),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            prefix = f"listener.name.{listener}"
            known[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(("PLAIN", *SCRAM_MECHANISMS))
            known[f"{prefix}.plain.sasl.jaas.config"] = (
                f'{_LOGIN_MODULES}.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";'
            )
            for mechanism in SCRAM_MECHANISMS:
                known[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = (
                    f"{_LOGIN_MODULES}.scram.ScramLoginModule required;"
                )
        return known
