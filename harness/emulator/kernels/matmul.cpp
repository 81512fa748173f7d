// Matmul as the matrix unit accumulates it: takes the operands apart, shares panels of the result out to threads, and puts
// partial sums away between K blocks.

#include <algorithm>
#include <cstring>
#include <vector>

#include "device.h"
#include "exact.h"
#include "lanes.h"
#include "parallel.h"
#include "partials.h"

extern "C" {

// in0 [batch][m][k] and dest [batch][m][n] are plain rows; in1 is panels (panels.h), with n and k padded to tiles. A wide
// operand is float32 holding TF32, another is bfloat16.
struct Product {
    const void *in0, *in1;
    float* dest;
    int64_t batch, m, k, n;
    int64_t in1_stride;      // words from one batch's panels to the next: 0 if all have the same
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

enum Part { kHigh, kLow, kWhole };  // of a significand
using Passes = std::vector<std::pair<Part, Part>>;

// What mode DEVICE multiplies after the first phase. A 32-bit Dest loses so little in its own rounding that phases may be
// added up in one: a whole bfloat16 has all that two phases read.
Passes later_passes(const Product& p) {
    if (p.phases == 4 && p.fp32_dest && !p.in1_wide) return {{kLow, kHigh}, {kWhole, kLow}};
    Passes phases{{kLow, kHigh}, {kHigh, kLow}, {kLow, kLow}};
    phases.resize(p.phases - 1);
    return phases;
}

// A part of a Src value as a bfloat16 in a word's upper half. `high` has the bits of the high part, `all` those that any
// phase reads: TF32 has one more in SrcA.
struct Side {
    uint32_t high, all;
};
constexpr Side kSideA{0xFFF80000u, 0xFFFFC000u}, kSideB{0xFFFE0000u, 0xFFFFE000u};

inline float as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline uint32_t part_of(uint32_t bits, Part part, Side side) {
    if (part == kWhole) return bits & 0xFFFF0000u;
    if (part == kHigh) return bits & side.high;
    return lanes::bits(as_float(bits & side.all) - as_float(bits & side.high)) & 0xFFFF0000u;
}

inline uint32_t pair_of(uint32_t even, uint32_t odd) { return even >> 16 | odd; }

// in0 taken apart, each row padded to whole tiles of k.
struct Rows {
    long stride;                    // from one row to the next, in k
    std::vector<int16_t> exponent;
    std::vector<int16_t> slice[2];  // EXACT
    std::vector<float> high;        // DEVICE, first phase
    std::vector<uint32_t> part[3];  // DEVICE, in pairs of k, where a pass wants the part
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

int16_t exponent_of(uint32_t bits) { return bits & lanes::kInf ? bits >> 23 & 255 : kNoExponent; }

bool take_apart(const Product& p, const Passes& passes, Rows& rows) {
    const long count = p.batch * p.m, stride = rows.stride;
    bool infinite = false;
    std::vector<uint32_t> bits(stride);
    rows.exponent.resize(count * stride);
    if (p.exact)
        for (auto& slice : rows.slice) slice.resize(count * stride);
    else
        rows.high.resize(count * stride);
    for (const auto& [a, b] : passes) rows.part[b].resize(count * stride / 2);
    for (long row = 0; row < count; ++row) {
        infinite |= read_row(p, row, bits);
        const long at = row * stride;
        if (p.exact) {
            exact_take_apart_b(bits.data(), stride, &rows.exponent[at], &rows.slice[0][at], &rows.slice[1][at]);
            continue;
        }
        for (long k = 0; k < stride; ++k) {
            rows.exponent[at + k] = exponent_of(bits[k]);
            rows.high[at + k] = as_float(part_of(bits[k], kHigh, kSideB));
        }
        for (Part part : {kHigh, kLow, kWhole})
            if (!rows.part[part].empty())
                for (long k = 0; k < stride; k += 2)
                    rows.part[part][(at + k) / 2] =
                        pair_of(part_of(bits[k], part, kSideB), part_of(bits[k + 1], part, kSideB));
    }
    return infinite;
}

// What a thread needs for one panel.
struct Workspace {
    std::vector<float> high;        // DEVICE, first phase
    std::vector<int16_t> exponent;
    std::vector<uint32_t> part[3];  // DEVICE, in pairs of k
    alignas(64) float dest[kRows * kPanel], stored[kRows * kPanel];
};

// The two values of a pair of k in one column, as float32 bits.
inline std::pair<uint32_t, uint32_t> pair_at(const uint32_t* panel, bool wide, long pair, long n) {
    if (wide) return {panel[2 * pair * kPanel + n], panel[(2 * pair + 1) * kPanel + n]};
    const uint32_t word = panel[pair * kPanel + n];
    return {word << 16, word & 0xFFFF0000u};
}

void take_panel_apart(const uint32_t* panel, bool wide, long k, const Passes& passes, Workspace& work) {
    work.high.resize(k * kPanel);
    work.exponent.resize(k * kPanel);
    for (long pair = 0; pair < k / 2; ++pair)
        for (long n = 0; n < kPanel; ++n) {
            const auto [even, odd] = pair_at(panel, wide, pair, n);
            const long at = 2 * pair * kPanel + n;
            work.high[at] = as_float(part_of(even, kHigh, kSideA)) * kPastTheTie;
            work.high[at + kPanel] = as_float(part_of(odd, kHigh, kSideA)) * kPastTheTie;
            work.exponent[at] = exponent_of(even);
            work.exponent[at + kPanel] = exponent_of(odd);
        }
    for (const auto& pass : passes) {
        std::vector<uint32_t>& out = work.part[pass.first];
        if (pass.first == kWhole && !wide) continue;  // the panel itself
        out.resize(k / 2 * kPanel);
        for (long pair = 0; pair < k / 2; ++pair)
            for (long n = 0; n < kPanel; ++n) {
                const auto [even, odd] = pair_at(panel, wide, pair, n);
                out[pair * kPanel + n] = pair_of(part_of(even, pass.first, kSideA), part_of(odd, pass.first, kSideA));
            }
    }
}

class Matmul {
   public:
    Matmul(const Product& p) : p_(p), k_(round_up(p.k, kTile)), passes_(p.exact ? Passes{} : later_passes(p)) {
        rows_.stride = k_;
        if (take_apart(p_, passes_, rows_) && !p_.exact) {  // Inf is an ordinary number there, so go by the exact rules
            p_.exact = 1;
            passes_.clear();
            take_apart(p_, passes_, rows_);
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
    // Rows [first, last) of one panel of the result.
    long panel(long batch, long index, long first, long last) const {
        static thread_local Workspace work;
        const uint32_t* panel = static_cast<const uint32_t*>(p_.in1) + batch * p_.in1_stride +
                                index * k_ * kPanel / (p_.in1_wide ? 1 : 2);
        if (!p_.exact) take_panel_apart(panel, p_.in1_wide, k_, passes_, work);
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
        const FirstPhase phase{work.high.data(), &rows_.high[offset], work.exponent.data(), &rows_.exponent[offset]};
        Pass passes[3];
        for (size_t i = 0; i < passes_.size(); ++i) {
            const auto [a, b] = passes_[i];
            passes[i] = {a == kWhole ? panel : work.part[a].data(), &rows_.part[b][offset / 2]};
        }
        device_accumulate(work.dest, rows, phase, passes, passes_.size(), k_, first, last, p_.fp32_dest);
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
    Passes passes_;
    Rows rows_;
};

}  // namespace

// Returns how often the fp32 Dest erratum struck (0 in mode DEVICE, which does not model it).
extern "C" int64_t tt_matmul(const Product* product) { return Matmul(*product).run(); }
