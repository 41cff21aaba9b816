"""Attributes, and the resources that benchmarks send from."""

from random import Random

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource


def text(key: str, value: str) -> KeyValue:
    """An attribute."""
    return KeyValue(key=key, value=AnyValue(string_value=value))


def pod_of(random: Random, service: str, *, hosts: int, hosts_of_subnet: int) -> Resource:
    """A pod of *service* on one of so many hosts."""
    host = random.randrange(hosts)
    address = f"10-0-{host // hosts_of_subnet}-{host % hosts_of_subnet}"
    return Resource(
        attributes=[
            text("service.name", service),
            text("service.namespace", "shop"),
            text("service.version", f"1.{random.randrange(40)}.{random.randrange(10)}"),
            text("service.instance.id", f"{random.getrandbits(128):032x}"),
            text("deployment.environment.name", "production"),
            text("host.name", f"ip-{address}.eu-central-1.internal"),
            text("k8s.pod.name", f"{service}-{random.getrandbits(40):010x}"),
            text("telemetry.sdk.language", "python"),
        ]
    )
