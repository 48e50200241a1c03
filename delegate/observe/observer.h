// The tables in which a cache sums what calibration and evaluation want to know of its rows. They are off unless asked
// for (shadow_observe); then they cost time and memory, and change no output. docs/op_spec.md (observers) has the
// contract of each table; attention/row_observer.h fills them.
#ifndef SHADOWATTN_DELEGATE_OBSERVE_OBSERVER_H_
#define SHADOWATTN_DELEGATE_OBSERVE_OBSERVER_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/op_options.h"

namespace shadow {

enum ObserveFlags : uint32_t { kObserveHistogram = 1, kObserveErrors = 2, kObserveHeads = 4, kObserveRanges = 8 };
inline constexpr uint32_t kObserveAll = 15;

inline constexpr int kObservedOctaves = 11;     // of the causal length: 64 .. 127 is the first
inline constexpr int kObservedBins = 41;        // half octaves of the probability down to 2^-20, and all below
inline constexpr int kObservedThresholds = 25;  // 2^-2, 2^-2.5 .. 2^-14
enum ObservedRange { kRangeQ, kRangeK, kRangeV, kRangeScore, kRangeOut, kObservedRanges };  // score: q . k, not scaled

// Octave of a causal length; shorter ones count with the first, longer ones with the last.
int ObservedOctave(int64_t causal);
float ObservedThreshold(int index);

// Sums over rows. Any thread may add.
class Observer {
 public:
  // Starts with `what` and empty tables.
  void Start(uint32_t what);
  void Reset();
  uint32_t what() const { return what_; }
  bool wants(uint32_t flag) const { return (what_ & flag) != 0; }
  // Of all positions of a row, also those that it does not select.
  bool wants_weights() const { return wants(kObserveHistogram | kObserveErrors); }
  // Before the first rows: makes the tables. Later calls do nothing. Throws std::bad_alloc.
  void Bind(const OpOptions& op);

  struct Place {
    int layer;
    int64_t head;
    int64_t causal;
  };
  void AddHistogram(const Place& place, const float* weights, int sinks, int free_end, float mass);
  // errors [kObservedThresholds]: |o at a threshold - o of everything|^2; norm: |o of everything|^2.
  void AddErrors(const Place& place, const double* errors, double norm);
  void AddHead(const Place& place, double selected, double mass, double recall);
  void AddRange(int layer, int which, float largest);

  // A table by its name; zeros where nothing was observed. Refuses another count.
  Status Read(const std::string& name, double* out, int64_t count) const;

 private:
  struct Table {
    const char* name;
    int64_t width;  // per (layer, head), or per layer
    bool per_head;
    std::vector<double> sums;
  };
  enum Name { kHistogram, kRows, kErrors, kNorms, kErrorRows, kHeads, kRanges, kNumTables };

  double* At(Name name, const Place& place);
  int64_t Count(const Table& table) const;

  uint32_t what_ = 0;
  int num_layers_ = 0;
  int num_heads_ = 0;
  mutable std::mutex mutex_;
  Table tables_[kNumTables] = {
      {"histogram", kObservedOctaves * kObservedBins, true, {}},
      {"rows", kObservedOctaves, true, {}},
      {"errors", kObservedOctaves * kObservedThresholds, true, {}},
      {"norms", kObservedOctaves, true, {}},
      {"error_rows", kObservedOctaves, true, {}},
      {"heads", 4, true, {}},  // rows, then sums of selected share, mass, recall
      {"ranges", kObservedRanges, false, {}},
  };
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_OBSERVE_OBSERVER_H_
