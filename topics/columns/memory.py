"""Loads that Numba's array indexing can't express: one octet without the negative-index branch, eight octets at once.

Neither checks bounds: the caller has compared the index with its buffer's end. Eight octets are read little-endian, so
the project refuses big-endian machines at import. Measured on the JSON scan: three times the rate of plain indexing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from topics.columns.jit import inline

if sys.byteorder != "little":
    raise ImportError("tidegate's kernels read eight octets at once, little-endian: this machine is big-endian")

int64 = cast(Callable[[Any], int], np.int64)  # as kernels cast; to the type checker they are Python's numbers
float64 = cast(Callable[[Any], float], np.float64)

ONES = 0x0101010101010101
HIGHS = 0x8080808080808080


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    octets = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.gep(octets, [arguments[1]])


@intrinsic  # type: ignore[untyped-decorator]
def octet(typing_context: Any, array: Any, index: Any) -> Any:
    """``int64(array[index])`` of a contiguous uint8 array, unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(_address(context, builder, signature, arguments)), ir.IntType(64))

    return types.int64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def octets8(typing_context: Any, array: Any, index: Any) -> Any:
    """The eight octets from ``array[index]`` on as one little-endian uint64, unchecked, any alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store8(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a uint64 as eight little-endian octets at ``array[index]``, unchecked, any alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line ``offset`` octets behind the start of an array of any type; waits for nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        octets, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octets, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        how = [number(0), number(3), number(1)]  # to read, keep in all caches, it's data
        builder.call(ask, [_address(context, builder, signature, arguments), *how])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def crc32c_step(typing_context: Any, crc: Any, word: Any) -> Any:
    """Eight octets of CRC-32C by SSE 4.2's instruction: only for processors that have it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        kind = ir.FunctionType(number, [number, number])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse42.crc32.64.64"), arguments
        )

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Number of zero bits below the lowest set bit of a uint64; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def byte_swap(typing_context: Any, value: Any) -> Any:
    """A uint64 with its octets in the opposite order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), generate


@inline
def octets4(octets: Any, at: int) -> int:
    """The four octets from ``octets[at]`` on as one little-endian integer, unchecked."""
    return (
        octet(octets, at) | (octet(octets, at + 1) << 8) | (octet(octets, at + 2) << 16) | (octet(octets, at + 3) << 24)
    )


@inline
def big32(octets: Any, at: int) -> int:
    """The unsigned big-endian 32-bit integer at ``octets[at]``, unchecked."""
    return (
        (octet(octets, at) << 24) | (octet(octets, at + 1) << 16) | (octet(octets, at + 2) << 8) | octet(octets, at + 3)
    )
