// What the packer writes (numerics.md, "Packer Dest -> L1"), by the rules of formats.pack_round: block floats, where 16
// elements share an exponent and an exponent of 255 is one like any other, and float32 as bfloat16.

#include <algorithm>

#include "lanes.h"
#include "parallel.h"

namespace {

using namespace lanes;

constexpr int kBlock = 16, kParts = kBlock / kLanes;
constexpr long kChunk = 1 << 12;  // blocks one thread takes at a time

struct Options {
    bool precise;  // no rounding to 7 significant bits first; float32 is cut to bfloat16, its NaN still numbers
    bool three;    // the top 3 of the 7 bits of a magnitude stay
};

inline int largest(I x) {
    int32_t best = 0;
    for (int i = 0; i < kLanes; ++i) best = x[i] > best ? x[i] : best;
    return best;
}

inline W nan_to_inf(W w) { return pick((exponent(w) == 255) & ((w & kMantissa) != 0), (w & kSign) | kInf, w); }

inline W first_step(W w, bool bf16, Options options) {
    if (!options.precise) return (nan_to_inf(w) + 0x10000u) & 0xFFFE0000u;
    return bf16 ? nan_to_inf(w) : w & 0xFFFF0000u;
}

// One part of a block with exponent `top`, as bfloat16 in the upper halves.
inline W aligned(W w, int top, Options options) {
    const I shift = smaller(top - exponent(w), all_int(12)) + 17;
    I magnitude = smaller(((I)significand(w) + ((1 << shift) >> 1)) >> shift, all_int(127));
    if (options.three) magnitude &= 0x70;
    // magnitude * 2**(top - 133): a normal number, or a multiple of bfloat16's smallest, or zero without a sign.
    const W m = to_float(magnitude);
    const I biased = exponent(m) + (top - 133);
    const W normal = (W)biased << 23 | (m & kMantissa), denormal = (W)(magnitude << std::min(top, 8)) << 16;
    return pick(magnitude == 0, W{}, (w & kSign) | pick(biased > 0, normal, denormal));
}

template <class T>
inline void pack_block(const T* x, uint16_t* out, Options options) {
    W part[kParts];
    int top = 0;
    for (int i = 0; i < kParts; ++i) {
        part[i] = first_step(load(x + i * kLanes), sizeof(T) == 2, options);
        top = std::max(top, largest(exponent(part[i])));
    }
    for (int i = 0; i < kParts; ++i) store(out + i * kLanes, aligned(part[i], top, options));
}

template <class T>
void pack(const T* x, uint16_t* out, long rows, long width, Options options, int threads) {
    const long blocks = (width + kBlock - 1) / kBlock, total = rows * blocks;
    parallel_for(threads, (total + kChunk - 1) / kChunk, [&](long item) {
        for (long i = item * kChunk; i < std::min(total, (item + 1) * kChunk); ++i) {
            const long column = i % blocks * kBlock, at = i / blocks * width + column;
            const long count = std::min(long(kBlock), width - column);
            if (count == kBlock) {
                pack_block(x + at, out + at, options);
                continue;
            }
            T padded[kBlock] = {};
            uint16_t result[kBlock];
            std::memcpy(padded, x + at, sizeof(T) * count);
            pack_block(padded, result, options);
            std::memcpy(out + at, result, sizeof(uint16_t) * count);
        }
    });
}

}  // namespace

extern "C" void blocks_pack(const void* x, uint16_t* out, long rows, long width, int bf16, int precise, int three,
                            int threads) {
    const Options options{precise != 0, three != 0};
    if (bf16)
        pack(static_cast<const uint16_t*>(x), out, rows, width, options, threads);
    else
        pack(static_cast<const float*>(x), out, rows, width, options, threads);
}

extern "C" void pack_bf16(const float* x, uint16_t* out, long n, int threads) {
    const auto packed = [](W w) {
        w = nan_to_inf(w) + 0x8000u;
        return pick(exponent(w) == 0, W{}, w);
    };
    constexpr long kPiece = kChunk * kBlock;
    parallel_for(threads, (n + kPiece - 1) / kPiece, [&](long item) {
        const long end = std::min(n, (item + 1) * kPiece);
        long i = item * kPiece;
        for (; i + kLanes <= end; i += kLanes) store(out + i, packed(load(x + i)));
        if (i == end) return;
        float padded[kLanes] = {};
        uint16_t result[kLanes];
        std::memcpy(padded, x + i, sizeof(float) * (end - i));
        store(result, packed(load(padded)));
        std::memcpy(out + i, result, sizeof(uint16_t) * (end - i));
    });
}
