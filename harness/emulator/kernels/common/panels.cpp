#include "panels.h"

#include <algorithm>
#include <cstring>

namespace {

constexpr long kAhead = 16;  // rows of in1 fetched ahead: a panel has a cache line of each, too little for the CPU to see the stride

constexpr long padded(long x) { return (x + kTile - 1) / kTile * kTile; }

// Columns of two k, a word each.
inline void lay_pair(const uint16_t* even, const uint16_t* odd, long columns, long stride, uint32_t* out) {
    if (stride == 1)
        for (long n = 0; n < columns; ++n) out[n] = even[n] | (uint32_t)odd[n] << 16;
    else
        for (long n = 0; n < columns; ++n) out[n] = even[n * stride] | (uint32_t)odd[n * stride] << 16;
}

}  // namespace

long Matrix::panel_words() const { return padded(k) * kPanel / (wide ? 1 : 2); }

void Matrix::lay_out(long panel, uint32_t* out) const {
    const long first = panel * kPanel, columns = std::min<long>(kPanel, n - first);
    std::fill(out, out + panel_words(), 0);
    if (wide) {
        const uint32_t* from = static_cast<const uint32_t*>(data) + first * n_stride;
        for (long i = 0; i < k; ++i)
            for (long c = 0; c < columns; ++c) out[i * kPanel + c] = from[i * k_stride + c * n_stride];
        return;
    }
    const uint16_t* from = static_cast<const uint16_t*>(data) + first * n_stride;
    if (k_stride == 1 && k % 2 == 0) {  // pairs lie side by side, as they do in a word of a little-endian machine
        for (long i = 0; i < k; i += 2)
            for (long c = 0; c < columns; ++c) std::memcpy(out + i / 2 * kPanel + c, from + i + c * n_stride, 4);
        return;
    }
    for (long i = 0; i + 1 < k; i += 2, from += 2 * k_stride) {
        for (long row = kAhead; row < kAhead + 2; ++row)
            if (i + row < k) __builtin_prefetch(from + row * k_stride);
        lay_pair(from, from + k_stride, columns, n_stride, out + i / 2 * kPanel);
    }
    if (k % 2)
        for (long c = 0; c < columns; ++c) out[k / 2 * kPanel + c] = from[c * n_stride];
}
