// What happens to partial sums between two K blocks: packed, reloaded, or added up in L1. The rules of formats.py
// (pack_round, unpack, l1_accumulate), where they are spelled out, for sixteen Dest values: one group of a block float.
#pragma once

#include "lanes.h"

namespace partials {

using lanes::I;
using lanes::W;

enum Format { kBf16 = 0, kFp32 = 1, kBfp8 = 3, kBfp4 = 4 };  // ttnn's DataType

inline W without_denormals(W w) { return lanes::pick(lanes::exponent(w) == 0, w & lanes::kSign, w); }

constexpr int kGroupVectors = 16 / lanes::kLanes;  // of a block float's group

// A group packed to a block float and read back, in place: the exponent wraps around where it would not be positive.
inline void through_block_float(W* group, Format format) {
    int largest = 0;
    for (int v = 0; v < kGroupVectors; ++v) {
        const I e = lanes::exponent(group[v] + 0x10000u);  // of 7 significant bits, rounded half away from zero
        for (int i = 0; i < lanes::kLanes; ++i) largest = e[i] > largest ? e[i] : largest;
    }
    for (int v = 0; v < kGroupVectors; ++v) {
        const W seven = (group[v] + 0x10000u) & 0xFFFE0000u;
        const I gap = lanes::smaller(largest - lanes::exponent(seven), lanes::all_int(31));
        I magnitude = (((I)lanes::significand(seven) >> 17 << 1 >> gap) + 1) >> 1;
        if (format == kBfp4) magnitude &= 0x70;
        const W value = lanes::to_float(magnitude);
        const I biased = (lanes::exponent(value) + largest - 133) & 255;
        const W result = (value & lanes::kMantissa) | (W)(biased << 23) | (group[v] & lanes::kSign);
        group[v] = lanes::pick((I)((magnitude == 0) | (biased == 0)), W{}, result);
    }
}

inline W rounded_to_bf16(W d) {
    const W rounded = (d + 0x8000u) & 0xFFFF0000u;
    return lanes::pick(lanes::exponent(rounded) == 0, W{}, rounded);
}

// Sixteen Dest values after they were packed and read back, in place.
inline void reload(W* group, Format format) {
    if (format == kFp32) return;
    if (format != kBf16) return through_block_float(group, format);
    for (int v = 0; v < kGroupVectors; ++v) group[v] = rounded_to_bf16(group[v]);
}

// L1 after the packer added Dest onto it.
inline W added(W stored, W d, Format format) {
    const W x = without_denormals(stored), y = without_denormals(format == kBf16 ? rounded_to_bf16(d) : d);
    W sum = (W)((lanes::F)x + (lanes::F)y);
    sum = lanes::pick((I)(sum & ~lanes::kSign) > (I)lanes::all(lanes::kInf), lanes::all(0x7FC00000u), sum);
    if (format == kBf16) sum = (sum + 0x7FFFu + (sum >> 16 & 1)) & 0xFFFF0000u;
    return without_denormals(sum);
}

}  // namespace partials
