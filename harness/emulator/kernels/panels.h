// How a matmul's operands lie in memory, and what a K range of it needs to know.
//
// in1 (SrcA) comes as panels of 32 columns, [panel][pair of k][column]: one word holds a column's bfloat16 of an even k (low
// half) and of the next k (high half). A TF32 in1 comes as [panel][k][column] of float32. in0 (SrcB) comes as rows.
#pragma once

#include <cstdint>

constexpr int kTile = 32, kDepth = 16, kGroup = 8;
constexpr int kPanel = 32;   // columns of a panel: a tile's
constexpr int kRows = 128;   // rows whose Dest values are worked on together: they fit the first cache
constexpr int kSpan = 128;   // k worked on together: that part of a panel fits the first cache

// The bits of a Src value that its high slice keeps, and those that any phase reads: TF32 has one more in SrcA.
struct Side {
    uint32_t high, all;
};
constexpr Side kSideA{0xFFF80000u, 0xFFFFC000u}, kSideB{0xFFFE0000u, 0xFFFFE000u};
