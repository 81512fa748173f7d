// How the kernels read in1 (SrcA): in panels of 32 columns, [pair of k][column], where one word holds a column's bfloat16 of
// an even k (low half) and of the next k (high half); of TF32 as [k][column] of float32. in0 (SrcB) comes as rows.
#pragma once

#include <cstdint>

constexpr int kTile = 32, kDepth = 16, kGroup = 8;
constexpr int kPanel = 32;   // columns of a panel: a tile's
constexpr int kRows = 128;   // rows whose Dest values are worked on together: they fit the first cache
constexpr int kSpan = 128;   // k worked on together: that part of a panel fits the first cache

// An operand [k][n] as it lies in memory, bfloat16 or float32 (`wide`); strides in elements.
struct Matrix {
    const void* data;
    bool wide;
    long k, n, k_stride, n_stride;

    long panel_words() const;                       // k padded to whole tiles
    void lay_out(long panel, uint32_t* out) const;  // padded with zeros
};

// The bits of a Src value that its high slice keeps, and those that any phase reads: TF32 has one more in SrcA.
struct Side {
    uint32_t high, all;
};
constexpr Side kSideA{0xFFF80000u, 0xFFFFC000u}, kSideB{0xFFFE0000u, 0xFFFFE000u};
