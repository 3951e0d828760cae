"""aiokafka's clients, made to create no topics.

A request for a topic's metadata creates that topic on clusters that create topics on demand (the default of many), with one
partition and no compaction: an edge that starts before `tidegate topics --create` would make topics that the engine refuses.
aiokafka has no option for this. Kafka before 0.11 ignores the request's flag.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataRequest


def rebound(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """Return the same function with other bindings for some of its module's global names."""
    assert isinstance(function, FunctionType)
    unknown = set(names) - set(function.__code__.co_names)
    assert not unknown, f"{function.__qualname__} doesn't use {unknown}"
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


class ExistingTopicsClient(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, whose requests for metadata create no topics."""

    _metadata_update = rebound(
        AIOKafkaClient._metadata_update, MetadataRequest=partial(MetadataRequest, allow_auto_topic_creation=False)
    )


class ExistingTopicsConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer, which creates no topics."""

    __init__ = rebound(AIOKafkaConsumer.__init__, AIOKafkaClient=ExistingTopicsClient)


class ExistingTopicsProducer(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer, which creates no topics."""

    __init__ = rebound(AIOKafkaProducer.__init__, AIOKafkaClient=ExistingTopicsClient)
