// Matmul as the matrix unit accumulates it: takes the operands apart, shares panels of the result out to threads, and puts
// partial sums away between K blocks.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "device.h"
#include "exact.h"
#include "lanes.h"
#include "parallel.h"
#include "partials.h"

extern "C" {

// in0 [batch][m][k] and dest [batch][m][n] lie row by row, in1 [batch][k][n] with any strides, in elements (a batch stride
// of 0: all use the same). A wide operand is float32 holding TF32, another is bfloat16.
struct Product {
    const void *in0, *in1;
    float* dest;
    int64_t batch, m, k, n;
    int64_t in1_stride[3];   // of batch, k and n
    int64_t block;           // k of a K block
    int32_t in0_wide, in1_wide;
    int32_t phases, fp32_dest;
    int32_t exact;           // mode EXACT, else DEVICE
    int32_t partial;         // format of partial sums, a DataType
    int32_t l1_acc;          // blocks are added up in L1
    int32_t partial_result;  // the last block too leaves Dest as a partial sum
    int32_t onto_dest;       // goes on from what dest holds, else from zero
    int32_t threads;
};

}  // extern "C"

namespace {

constexpr long round_up(long x, long to) { return (x + to - 1) / to * to; }

// What mode DEVICE multiplies after the first two phases, each with in0's low slice: with a part of in1. A 32-bit Dest loses
// so little in its own rounding that two phases may be added up in one: a whole bfloat16 has all that they read.
enum Part { kHigh, kLow, kWhole };
std::vector<Part> later_passes(const Product& p) {
    if (p.phases < 3) return {};
    if (p.phases == 3) return {kHigh};
    if (p.fp32_dest && !p.in1_wide) return {kWhole};
    return {kHigh, kLow};
}

inline float as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Slices of Src values, as bfloat16 in a word's upper half.
inline uint32_t high_slice(uint32_t bits, Side side) { return bits & side.high; }
inline uint32_t low_slice(uint32_t bits, Side side) {
    return lanes::bits(as_float(bits & side.all) - as_float(bits & side.high)) & 0xFFFF0000u;
}

inline uint32_t pair_of(uint32_t even, uint32_t odd) { return even >> 16 | odd; }

// in0 taken apart, each row padded to whole tiles of k.
struct Rows {
    long stride;                              // from one row to the next, in k
    std::vector<int16_t> exponent, slice[2];  // EXACT
    std::vector<uint32_t> first_exponent;     // DEVICE, first two phases
    std::vector<float> first;
    std::vector<uint32_t> low;                // DEVICE, later phases, in pairs of k
};

// One row's Src values as float32 bits. Returns whether an exponent is 255.
bool read_row(const Product& p, long row, std::vector<uint32_t>& bits) {
    if (p.in0_wide) {
        std::memcpy(bits.data(), static_cast<const uint32_t*>(p.in0) + row * p.k, p.k * sizeof(uint32_t));
    } else {
        const uint16_t* values = static_cast<const uint16_t*>(p.in0) + row * p.k;
        for (long k = 0; k < p.k; ++k) bits[k] = (uint32_t)values[k] << 16;
    }
    uint32_t largest = 0;
    for (long k = 0; k < p.k; ++k) largest = std::max(largest, bits[k] & lanes::kInf);
    return largest == lanes::kInf;
}

// A Src value's exponent for the first phase: less its bias, in both halves of a word.
inline uint32_t exponent_of(uint32_t bits) {
    const int exponent = (bits & lanes::kInf ? (int)(bits >> 23 & 255) : kNoExponent) - 127;
    return (exponent & 0xFFFF) * 0x10001u;
}

// Takes one row apart; returns whether an exponent is 255.
bool take_row_apart(const Product& p, long row, std::vector<uint32_t>& bits, Rows& rows) {
    const bool infinite = read_row(p, row, bits);
    const long at = row * rows.stride;
    if (p.exact) {
        exact_take_apart_b(bits.data(), rows.stride, &rows.exponent[at], &rows.slice[0][at], &rows.slice[1][at]);
        return infinite;
    }
    for (long k = 0; k < rows.stride; ++k) {
        rows.first[at + k] = as_float(high_slice(bits[k], kSideB));
        rows.first_exponent[at + k] = exponent_of(bits[k]);
    }
    if (p.phases > 2)
        for (long k = 0; k < rows.stride; k += 2)
            rows.low[(at + k) / 2] = pair_of(low_slice(bits[k], kSideB), low_slice(bits[k + 1], kSideB));
    return infinite;
}

// Takes all of in0 apart; returns whether an exponent is 255.
bool take_apart(const Product& p, Rows& rows) {
    const long count = p.batch * p.m, stride = rows.stride;
    if (p.exact) {
        rows.exponent.resize(count * stride);
        for (auto& slice : rows.slice) slice.resize(count * stride);
    } else {
        rows.first.resize(count * stride);
        rows.first_exponent.resize(count * stride);
        if (p.phases > 2) rows.low.resize(count * stride / 2);
    }
    std::atomic<bool> infinite = false;
    const long chunk = 16;
    parallel_for(p.threads, (count + chunk - 1) / chunk, [&](long item) {
        std::vector<uint32_t> bits(stride);
        for (long row = item * chunk; row < std::min(count, (item + 1) * chunk); ++row)
            if (take_row_apart(p, row, bits, rows)) infinite = true;
    });
    return infinite;
}

// What a thread needs for one panel.
struct Workspace {
    std::vector<uint32_t> panel;
    std::vector<uint32_t> first_exponent;  // DEVICE, first two phases
    std::vector<float> first[2];
    std::vector<uint32_t> part[2];         // DEVICE, later phases: high and low slices, in pairs of k
    alignas(64) float dest[kRows * kPanel], stored[kRows * kPanel];
};

// One slice of a panel in pairs of k.
template <class Slice>
void take_slice(const uint32_t* panel, bool wide, long k, Slice slice, std::vector<uint32_t>& out) {
    out.resize(k / 2 * kPanel);
    for (long pair = 0; pair < k / 2; ++pair)
        for (long n = 0; n < kPanel; ++n) {
            const uint32_t word = panel[pair * kPanel + n];
            const uint32_t even = wide ? panel[2 * pair * kPanel + n] : word << 16;
            const uint32_t odd = wide ? panel[(2 * pair + 1) * kPanel + n] : word & 0xFFFF0000u;
            out[pair * kPanel + n] = pair_of(slice(even, kSideA), slice(odd, kSideA));
        }
}

void take_panel_apart(const uint32_t* panel, const Product& p, long k, const std::vector<Part>& passes, Workspace& work) {
    work.first_exponent.resize(k * kPanel / 2);
    for (int phase = 0; phase < std::min(p.phases, 2); ++phase) work.first[phase].resize(k * kPanel);
    device_take_apart_a(panel, p.in1_wide, k, {work.first[0].data(), p.phases > 1 ? work.first[1].data() : nullptr},
                        work.first_exponent.data());
    for (Part part : passes) {
        if (part == kHigh) take_slice(panel, p.in1_wide, k, high_slice, work.part[kHigh]);
        if (part == kLow) take_slice(panel, p.in1_wide, k, low_slice, work.part[kLow]);
    }
}

class Matmul {
   public:
    Matmul(const Product& p, Rows& rows) : p_(p), k_(round_up(p.k, kTile)), passes_(later_passes(p)), rows_(rows) {
        rows_.stride = k_;
        if (take_apart(p_, rows_) && !p_.exact) {  // Inf is an ordinary number there, so go by the exact rules
            p_.exact = 1;
            take_apart(p_, rows_);
        }
        block_ = std::min(round_up(p.block, kTile), k_);
        blocks_ = (k_ + block_ - 1) / block_;
        in_l1_ = p.l1_acc && blocks_ > (p.partial_result ? 1 : 2);
    }

    long run() {
        const long panels = round_up(p_.n, kPanel) / kPanel, products = p_.batch * panels;
        // Enough items that no thread waits long for the last one.
        const long chunks = (p_.m + kRows - 1) / kRows;
        const long shares = std::min<long>(chunks, std::max<long>(1, 4 * p_.threads / products));
        const long chunks_each = (chunks + shares - 1) / shares;
        std::vector<long> struck(products * shares);
        parallel_for(p_.threads, products * shares, [&](long item) {
            const long product = item / shares, first = item % shares * chunks_each * kRows;
            struck[item] = panel(product / panels, product % panels, first,
                                 std::min<long>(p_.m, first + chunks_each * kRows));
        });
        long total = 0;
        for (long count : struck) total += count;
        return total;
    }

   private:
    Matrix in1(long batch) const {
        const auto [batch_stride, k_stride, n_stride] = p_.in1_stride;
        const char* data = static_cast<const char*>(p_.in1) + batch * batch_stride * (p_.in1_wide ? 4 : 2);
        return {data, p_.in1_wide != 0, p_.k, p_.n, k_stride, n_stride};
    }

    // Rows [first, last) of one panel of the result.
    long panel(long batch, long index, long first, long last) const {
        static thread_local Workspace work;
        const Matrix matrix = in1(batch);
        work.panel.resize(matrix.panel_words());
        matrix.lay_out(index, work.panel.data());
        const uint32_t* panel = work.panel.data();
        if (!p_.exact) take_panel_apart(panel, p_, k_, passes_, work);
        const long width = std::min<long>(kPanel, p_.n - index * kPanel);
        long struck = 0;
        for (long row = first; row < last; row += kRows) {
            const long rows = std::min<long>(kRows, last - row), at = batch * p_.m + row;
            float* dest = p_.dest + at * p_.n + index * kPanel;
            std::memset(work.dest, 0, rows * kPanel * sizeof(float));
            if (p_.onto_dest)
                for (long r = 0; r < rows; ++r)
                    std::memcpy(work.dest + r * kPanel, dest + r * p_.n, width * sizeof(float));
            for (long block = 0; block < blocks_; ++block) {
                const long end = std::min<long>(k_, (block + 1) * block_);
                for (long k = block * block_; k < end; k += kSpan)
                    struck += accumulate(work, rows, at, panel, k, std::min<long>(end, k + kSpan));
                put_away(work, rows, block);
            }
            for (long r = 0; r < rows; ++r)
                std::memcpy(dest + r * p_.n, work.dest + r * kPanel, width * sizeof(float));
        }
        return struck;
    }

    long accumulate(Workspace& work, long rows, long at, const uint32_t* panel, long first, long last) const {
        const long offset = at * k_;
        if (p_.exact) {
            const ExactRows b{&rows_.exponent[offset], {&rows_.slice[0][offset], &rows_.slice[1][offset]}, k_};
            return exact_accumulate(work.dest, rows, b, panel, p_.in1_wide, first, last, p_.phases, p_.fp32_dest);
        }
        const FirstPhases phases{std::min(p_.phases, 2),
                                 {work.first[0].data(), work.first[1].data()},
                                 work.first_exponent.data(),
                                 &rows_.first[offset],
                                 &rows_.first_exponent[offset]};
        Pass passes[2];
        for (size_t i = 0; i < passes_.size(); ++i)
            passes[i] = {passes_[i] == kWhole ? panel : work.part[passes_[i]].data(), &rows_.low[offset / 2]};
        device_accumulate(work.dest, rows, phases, passes, passes_.size(), k_, first, last, p_.fp32_dest);
        return 0;
    }

    // After a K block: leaves in work.dest what the next one, or the caller, finds in Dest.
    void put_away(Workspace& work, long rows, long block) const {
        const bool last = block == blocks_ - 1, kept = last && !p_.partial_result;
        const auto format = static_cast<partials::Format>(p_.partial);
        if (kept || (!in_l1_ && (format == partials::kFp32 || (format == partials::kBf16 && !p_.fp32_dest)))) return;
        // With sums in L1 the next block starts from zero, unless it is the last and stays in Dest.
        const bool reloads = !in_l1_ || last || (block == blocks_ - 2 && !p_.partial_result);
        for (long at = 0; at < rows * kPanel; at += 16) {
            lanes::W group[partials::kGroupVectors];
            std::memcpy(group, work.dest + at, sizeof group);
            if (!in_l1_ || block == 0) partials::reload(group, format);
            for (int v = 0; v < partials::kGroupVectors; ++v) {
                const long i = at + v * lanes::kLanes;
                if (in_l1_ && block > 0) group[v] = partials::added(lanes::load(work.stored + i), group[v], format);
                if (in_l1_) lanes::store(work.stored + i, group[v]);
                lanes::store(work.dest + i, reloads ? group[v] : lanes::W{});
            }
        }
    }

    Product p_;
    long k_, block_, blocks_;
    bool in_l1_;
    std::vector<Part> passes_;
    Rows& rows_;
};

}  // namespace

// Returns how often the fp32 Dest erratum struck (0 in mode DEVICE, which does not model it).
extern "C" int64_t tt_matmul(const Product* product) {
    static thread_local Rows rows;  // kept: fresh memory would cost a tenth of a large product
    return Matmul(*product, rows).run();
}
