"""Loads and stores that Numba's array indexing can't express: one byte without the negative-index branch, 8 bytes as a word.

None checks bounds: the caller has compared the index with its buffer's end. Words are little-endian, so the import refuses
big-endian machines. The JSON scan is three times as fast as with plain indexing (measured).
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
    raise ImportError("tidegate's kernels need a little-endian machine: this one is big-endian")

int64 = cast(Callable[[Any], int], np.int64)  # as kernels cast; for the type checker they return Python's numbers
float64 = cast(Callable[[Any], float], np.float64)

ONES = 0x0101010101010101
HIGHS = 0x8080808080808080


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    first = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.gep(first, [arguments[1]])


@intrinsic  # type: ignore[untyped-decorator]
def byte_at(typing_context: Any, array: Any, index: Any) -> Any:
    """Return ``int64(array[index])`` of a contiguous uint8 array, unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(_address(context, builder, signature, arguments)), ir.IntType(64))

    return types.int64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def load64(typing_context: Any, array: Any, index: Any) -> Any:
    """Return the 8 bytes at ``array[index]`` as a little-endian uint64, unchecked, with any alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store64(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a uint64 as 8 little-endian bytes at ``array[index]``, unchecked, with any alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Prefetch the cache line ``offset`` bytes after the start of an array of any type, without waiting."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        hints = [number(0), number(3), number(1)]  # for reading, into all cache levels, data
        builder.call(function, [_address(context, builder, signature, arguments), *hints])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def crc32c_step(typing_context: Any, crc: Any, word: Any) -> Any:
    """Return the CRC-32C after 8 more bytes, by the instruction of SSE 4.2: only for processors that have it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        kind = ir.FunctionType(number, [number, number])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse42.crc32.64.64"), arguments
        )

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Return the number of zero bits below the lowest set bit of a uint64; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def byte_swap(typing_context: Any, value: Any) -> Any:
    """Return a uint64 with its bytes in reverse order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), generate


@inline
def load32(buffer: Any, at: int) -> int:
    """Return the 4 bytes at ``buffer[at]`` as a little-endian integer, unchecked."""
    return (
        byte_at(buffer, at)
        | (byte_at(buffer, at + 1) << 8)
        | (byte_at(buffer, at + 2) << 16)
        | (byte_at(buffer, at + 3) << 24)
    )


@inline
def big32(buffer: Any, at: int) -> int:
    """Return the unsigned big-endian 32-bit integer at ``buffer[at]``, unchecked."""
    return (
        (byte_at(buffer, at) << 24)
        | (byte_at(buffer, at + 1) << 16)
        | (byte_at(buffer, at + 2) << 8)
        | byte_at(buffer, at + 3)
    )
