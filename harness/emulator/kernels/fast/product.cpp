// A product in float32 for mode fast. Each element is one sum in the order of k, whatever the other rows and columns: a row has the
// same bits alone, in a batch and in a longer prompt.

// Products of bfloat16 and of TF32 numbers are exact in float32, so whether they are fused with a sum does not matter: let them be.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

#include <algorithm>
#include <vector>

#include "block_product.h"
#include "parallel.h"

extern "C" {

// in0 [m][k] float32 and out [m][n], float32 or bfloat16 (`narrow`), lie row by row; in1 [k][n] is bfloat16 or float32 (`wide`), its
// strides in elements.
struct FloatProduct {
    const float* in0;
    const void* in1;
    void* out;
    int64_t m, k, n, k_stride, n_stride;
    int32_t wide, narrow, threads;
};

}  // extern "C"

namespace {

using namespace block_product;

constexpr long kBlocks = 32;            // of rows, which stay in the second cache while columns pass
constexpr long kChunk = kBlocks * kRows;
constexpr long kDepth = 256;            // of k: that part of a panel of columns stays in the first cache
constexpr long kAhead = 16;             // rows of in1 fetched ahead: the CPU does not see so long a stride
constexpr long kPanels = 4;             // laid out at once, so that whole cache lines of in1's rows are read, not parts of them

// Columns [first, first + kColumns) of row k of in1 as float32, zeros beyond the last.
inline void lay_out_row(const FloatProduct& p, long k, long first, float* to) {
    const long columns = std::min(kColumns, p.n - first), at = k * p.k_stride + first * p.n_stride;
    const float* wide = static_cast<const float*>(p.in1) + at;
    const uint16_t* narrow = static_cast<const uint16_t*>(p.in1) + at;
    if (p.n_stride == 1 && columns == kColumns) {
        for (long n = 0; n < kColumns; n += kLanes) lanes::store(to + n, p.wide ? lanes::load(wide + n) : lanes::load(narrow + n));
        return;
    }
    for (long n = 0; n < columns; ++n) to[n] = p.wide ? wide[n * p.n_stride] : as_float(narrow[n * p.n_stride]);
    for (long n = columns; n < kColumns; ++n) to[n] = 0;
}

inline void prefetch(const FloatProduct& p, long k, long first) {
    const long at = k * p.k_stride + first * p.n_stride;
    __builtin_prefetch(static_cast<const char*>(p.in1) + at * (p.wide ? sizeof(float) : sizeof(uint16_t)));
}

void store_row(const FloatProduct& p, long row, long first, const F (&sum)[2]) {
    const size_t columns = std::min(kColumns, p.n - first);
    const long at = row * p.n + first;
    if (p.narrow) {
        uint16_t result[kColumns];
        for (int v = 0; v < 2; ++v) lanes::store(result + v * kLanes, (W)rounded(sum[v]));
        std::memcpy(static_cast<uint16_t*>(p.out) + at, result, sizeof(uint16_t) * columns);
    } else {
        std::memcpy(static_cast<float*>(p.out) + at, sum, sizeof(float) * columns);
    }
}

// Rows [top, bottom), at most kChunk, times one panel [k][kColumns].
void multiply(const FloatProduct& p, const float* panel, long first, long top, long bottom) {
    F sums[kBlocks][kRows][2];
    std::memset(sums, 0, (bottom - top + kRows - 1) / kRows * sizeof sums[0]);
    for (long k = 0; k < p.k; k += kDepth)
        for (long row = top; row < bottom; row += kRows) {
            const float* rows[kRows];  // a short block repeats the last row
            for (int r = 0; r < kRows; ++r) rows[r] = p.in0 + std::min(row + r, bottom - 1) * p.k + k;
            add_product(rows, panel + k * kColumns, kColumns, std::min(kDepth, p.k - k), sums[(row - top) / kRows]);
        }
    for (long row = top; row < bottom; ++row) store_row(p, row, first, sums[(row - top) / kRows][(row - top) % kRows]);
}

}  // namespace

extern "C" void float_product(const FloatProduct* call) {
    const FloatProduct& p = *call;
    const long panels = (p.n + kColumns - 1) / kColumns, chunks = (p.m + kChunk - 1) / kChunk;
    const long together = std::clamp<long>(panels * chunks / (8 * p.threads), 1, kPanels);
    const long groups = (panels + together - 1) / together;
    parallel_for(p.threads, chunks * groups, [&](long item) {
        static thread_local std::vector<float> laid_out;
        const long begin = item % groups * together, end = std::min(panels, begin + together);
        const long top = item / groups * kChunk, bottom = std::min(p.m, top + kChunk), size = p.k * kColumns;
        laid_out.resize(together * size);
        for (long k = 0; k < p.k; ++k)
            for (long panel = begin; panel < end; ++panel) {
                if (k + kAhead < p.k) prefetch(p, k + kAhead, panel * kColumns);
                lay_out_row(p, k, panel * kColumns, laid_out.data() + (panel - begin) * size + k * kColumns);
            }
        for (long panel = begin; panel < end; ++panel)
            multiply(p, laid_out.data() + (panel - begin) * size, panel * kColumns, top, bottom);
    });
}
