// What `tch` does not bind of libtorch: c10d's store and process groups, gradients that are reduced while the backward
// pass goes on, BatchNorm over all ranks, pinned memory, and the switches of TF32. Called by c10d.rs only; see there for
// who owns what.
//
// Every function returns NULL, or an owned text that says what went wrong (byol_c10d_text_free).

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

// ProcessGroupGloo.hpp names these types of Gloo, whose own headers no wheel of torch carries; all are behind pointers
// that only libtorch follows. build.rs puts empty files in the place of Gloo's headers.
namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds);
};
namespace rendezvous {
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&) = 0;
};
} // namespace rendezvous
namespace transport {
class Device;
class UnboundBuffer;
} // namespace transport
} // namespace gloo

#define USE_C10D_GLOO
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "guard.h"

namespace {

using at::Tensor;
using byol::guard;
using byol::text_of;
using std::chrono::milliseconds;

// How often a wait looks up to see whether the ranks were given up.
constexpr milliseconds kLookUp{100};
constexpr std::chrono::microseconds kGlance{200};
// Marks, through all layers of libtorch, what went wrong between ranks and not in this one. c10d.rs looks for it.
constexpr const char* kBetweenRanks = "between ranks: ";

// What a rank's threads know of its collectives.
struct Pulse {
  std::atomic<bool> abandoned{false};
  std::atomic<uint64_t> waits{0};
  std::atomic<int> waiting{0};
  // Groups whose collectives run on a device and wait there, where no flag is seen: they are ended from outside.
  std::mutex mutex;
  std::vector<c10::intrusive_ptr<c10d::Backend>> on_device;

  void abandon() {
    if (abandoned.exchange(true)) {
      return;
    }
    std::lock_guard<std::mutex> lock(mutex);
    for (auto& backend : on_device) {
      try {
        backend->abort();
      } catch (...) {
        // It ended already.
      }
    }
  }

  void forget(const c10::intrusive_ptr<c10d::Backend>& backend) {
    std::lock_guard<std::mutex> lock(mutex);
    on_device.erase(std::remove(on_device.begin(), on_device.end(), backend), on_device.end());
  }
};

// Of NCCL's process group, which only CUDA's half of libtorch has: see cuda.cc.
using NcclOpen = char* (*)(
    const c10::intrusive_ptr<c10d::Store>*, int, int, int64_t, c10::intrusive_ptr<c10d::Backend>*);

struct StoreHandle {
  c10::intrusive_ptr<c10d::Store> store;
  std::shared_ptr<Pulse> pulse;
};

// What goes wrong in here went wrong between ranks: once they were given up, any call of what is aborted fails.
template <typename Body>
auto between_ranks(Body body) {
  try {
    return body();
  } catch (const c10::Error& error) {
    throw std::runtime_error(kBetweenRanks + std::string(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    throw std::runtime_error(kBetweenRanks + std::string(error.what()));
  }
}

struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
  std::shared_ptr<Pulse> pulse;
  // Collectives are put on the device's streams, and the host goes on: see `settle`.
  bool on_device = false;
  milliseconds patience{0};
  c10::intrusive_ptr<c10d::Work> last{};

  c10::intrusive_ptr<c10d::Work> start_sum(Tensor tensor) {
    return between_ranks([&] {
      std::vector<Tensor> tensors{std::move(tensor)};
      return backend->allreduce(tensors);
    });
  }

  void broadcast(const Tensor& tensor, int root) {
    wait(between_ranks([&] {
      std::vector<Tensor> tensors{tensor};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return backend->broadcast(tensors, options);
    }));
  }

  // What follows in this thread finds the work done: the host waits for it, or the device does where it runs on one.
  void wait(const c10::intrusive_ptr<c10d::Work>& work) {
    between_ranks([&] {
      if (on_device) {
        if (pulse->abandoned) {
          throw std::runtime_error("the ranks were given up");
        }
        work->synchronize();
        last = work;
      } else {
        wait_here(work);
      }
    });
  }

  // The host waits for what the device was asked to do with other ranks. A rank that reads a value of the device's waits
  // for the same, but could not be called off.
  void settle() {
    if (last) {
      between_ranks([&] { wait_here(last); });
      last.reset();
    }
  }

 private:
  // Waits as long as the other ranks are believed to live: that is the watch's business, not a time limit's here.
  void wait_here(const c10::intrusive_ptr<c10d::Work>& work) const {
    struct Waiting {
      Pulse& pulse;
      explicit Waiting(Pulse& pulse) : pulse(pulse) {
        pulse.waiting += 1;
      }
      ~Waiting() {
        pulse.waiting -= 1;
        pulse.waits += 1;
      }
    } waiting(*pulse);
    const auto until = std::chrono::steady_clock::now() + patience;
    while (!work->isCompleted()) {
      if (pulse->abandoned) {
        throw std::runtime_error("the ranks were given up");
      }
      if (on_device) {
        // Its own wait is for a value of the device's, which nothing calls off.
        if (std::chrono::steady_clock::now() > until) {
          throw std::runtime_error("the ranks' sums have not come within the time limit");
        }
        std::this_thread::sleep_for(kGlance);
        continue;
      }
      try {
        work->wait(kLookUp);
      } catch (...) {
        // Either it failed, which is looked at below, or it is not done yet.
      }
    }
    if (auto cause = work->exception()) {
      std::rethrow_exception(cause);
    }
    if (pulse->abandoned && on_device) {
      throw std::runtime_error("the ranks were given up");
    }
    work->synchronize();
  }

 public:
  void sum(const Tensor& tensor) {
    wait(start_sum(tensor));
  }

  // The sum of a small matrix, the same bits on all ranks. Everybody's are sent to everybody: half the messages of Gloo's
  // allreduce, which first reduces parts and then gathers them, and their number is what a few values cost.
  Tensor sum_of_few(Tensor values) {
    const int64_t ranks = backend->getSize(), rows = values.size(0), columns = values.size(1);
    Tensor all = at::empty({ranks * rows, columns}, values.options());
    wait(between_ranks([&] { return backend->_allgather_base(all, values, {}); }));
    return all.view({ranks, rows, columns}).sum(0);
  }
};

// [C] as it broadcasts over [n, C] or [n, C, h, w].
Tensor by_channel(const Tensor& values, const Tensor& like) {
  std::vector<int64_t> shape(like.dim(), 1);
  shape[1] = values.numel();
  return values.view(shape);
}

// BatchNorm whose statistics are those of all ranks' rows, forward and backward. Every rank has equally many rows.
struct RanksBatchNorm : torch::autograd::Function<RanksBatchNorm> {
  static Tensor forward(
      torch::autograd::AutogradContext* context,
      const Tensor& x,
      const Tensor& weight,
      const Tensor& bias,
      const Tensor& batch_mean,
      const Tensor& batch_variance,
      double eps,
      Group* group) {
    const int64_t ranks = group->backend->getSize();
    const int64_t count = x.numel() / x.size(1) * ranks;
    auto [own_mean, own_variance] = at::batch_norm_update_stats(x, {}, {}, 0.0);
    // In float64, where a mean square less a squared mean loses nothing that counts.
    auto means = own_mean.to(at::kDouble);
    auto moments = group->sum_of_few(at::stack({means, own_variance.to(at::kDouble) + means * means})).div_(ranks);
    auto mean = moments[0].to(at::kFloat);
    auto variance = (moments[1] - moments[0] * moments[0]).clamp_min_(0).to(at::kFloat);
    batch_mean.copy_(mean);
    batch_variance.copy_(variance * (static_cast<double>(count) / std::max<int64_t>(count - 1, 1)));
    context->save_for_backward({x, weight, mean, variance});
    context->saved_data["eps"] = eps;
    context->saved_data["count"] = count;
    context->saved_data["group"] = reinterpret_cast<int64_t>(group);
    return std::get<0>(at::native_batch_norm(x, weight, bias, mean, variance, false, 0.0, eps));
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list gradients) {
    auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &variance = saved[3];
    const double eps = context->saved_data["eps"].toDouble();
    const int64_t count = context->saved_data["count"].toInt();
    auto* group = reinterpret_cast<Group*>(context->saved_data["group"].toInt());
    const Tensor dy = gradients[0].contiguous(x.suggest_memory_format());
    // sum dy and sum dy x^ over this rank's rows: the gradients of bias and weight.
    auto [unused, by_weight, by_bias] = at::native_batch_norm_backward(
        dy, x, weight, mean, variance, {}, {}, false, eps, {false, true, true});
    auto sums = group->sum_of_few(at::stack({by_bias, by_weight})).div_(count);
    // dx = a (dy - mean dy - x^ mean (dy x^)), with a = weight / deviation and x^ = (x - mean) / deviation.
    auto inverse = (variance + eps).rsqrt();
    auto a = weight.defined() ? inverse * weight : inverse;
    auto b = -a * inverse * sums[1];
    auto c = -a * sums[0];
    Tensor dx = input_gradient(dy, x, mean, a, b, c);
    return {dx, weight.defined() ? by_weight : Tensor(), weight.defined() ? by_bias : Tensor(), {}, {}, {}, {}};
  }

  // a dy + b (x - mean) + c, by channel: one pass where the channels lie last.
  static Tensor input_gradient(
      const Tensor& dy, const Tensor& x, const Tensor& mean, const Tensor& a, const Tensor& b, const Tensor& c) {
    const auto format = x.suggest_memory_format();
    const bool channels_last = x.dim() == 2 || format == at::MemoryFormat::ChannelsLast;
    if (!channels_last || !x.is_cpu() || x.scalar_type() != at::kFloat || !x.is_contiguous(format)) {
      auto wide = [&](const Tensor& values) { return by_channel(values, x); };
      return at::addcmul(wide(c), dy, wide(a)).add_((x - wide(mean)).mul_(wide(b)));
    }
    Tensor dx = at::empty_like(x);
    const int64_t channels = x.size(1);
    const float *dy_ = dy.const_data_ptr<float>(), *x_ = x.const_data_ptr<float>();
    const float *mean_ = mean.const_data_ptr<float>(), *a_ = a.const_data_ptr<float>();
    const float *b_ = b.const_data_ptr<float>(), *c_ = c.const_data_ptr<float>();
    float* dx_ = dx.mutable_data_ptr<float>();
    const int64_t rows_at_once = std::max<int64_t>(1, 16384 / channels);
    at::parallel_for(0, x.numel() / channels, rows_at_once, [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * channels;
        for (int64_t i = 0; i < channels; ++i) {
          dx_[at + i] = a_[i] * dy_[at + i] + b_[i] * (x_[at + i] - mean_[i]) + c_[i];
        }
      }
    });
    return dx;
  }
};

// Sums the flat gradients of two lanes and of all ranks, in buckets: each is on its way as soon as both lanes' backward
// passes have filled it and all buckets before it. The fixed order is what makes the ranks' calls match.
class Reducer {
 public:
  explicit Reducer(Group* group) : group_(group) {}

  size_t add_bucket(Tensor first, Tensor second) {
    buckets_.push_back({std::move(first), std::move(second), 0, 0, {}});
    return buckets_.size() - 1;
  }

  void expect(size_t bucket) {
    buckets_.at(bucket).expected += 1;
  }

  void arm() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& bucket : buckets_) {
      bucket.missing = bucket.expected;
    }
    next_ = 0;
    armed_ = true;
  }

  void filled(size_t index) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!armed_) {
      return;
    }
    buckets_[index].missing -= 1;
    while (next_ < buckets_.size() && buckets_[next_].missing <= 0) {
      launch();
    }
  }

  // Sends what no gradient came for, and waits for all.
  void finish() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!armed_) {
      next_ = 0;
    }
    armed_ = false;
    while (next_ < buckets_.size()) {
      launch();
    }
    next_ = 0;
    for (auto& bucket : buckets_) {
      group_->wait(bucket.work);
      bucket.work.reset();
    }
  }

 private:
  struct Bucket {
    Tensor first, second;
    int64_t expected, missing;
    c10::intrusive_ptr<c10d::Work> work;
  };

  void launch() {
    at::NoGradGuard no_gradient;
    auto& bucket = buckets_[next_++];
    bucket.first.add_(bucket.second);
    bucket.work = group_->start_sum(bucket.first);
  }

  Group* group_;
  std::vector<Bucket> buckets_;
  std::mutex mutex_;
  size_t next_ = 0;
  bool armed_ = false;
};

struct FilledHook : torch::autograd::PostAccumulateGradHook {
  FilledHook(std::shared_ptr<Reducer> reducer, size_t bucket) : reducer(std::move(reducer)), bucket(bucket) {}

  void operator()(const torch::autograd::Variable&) override {
    reducer->filled(bucket);
  }

  std::shared_ptr<Reducer> reducer;
  size_t bucket;
};

struct ReducerHandle {
  std::shared_ptr<Reducer> reducer;
};

} // namespace

extern "C" {

void byol_c10d_text_free(char* text) {
  delete[] text;
}

char* byol_c10d_store_open(
    const char* host, uint16_t port, bool serve, int64_t timeout_ms, StoreHandle** out) {
  return guard([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serve;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = new StoreHandle{std::move(store), std::make_shared<Pulse>()};
  });
}

// A connection of its own to the same store, for another thread.
char* byol_c10d_store_clone(const StoreHandle* store, StoreHandle** out) {
  return guard([&] { *out = new StoreHandle{store->store->clone(), store->pulse}; });
}

void byol_c10d_store_free(StoreHandle* store) {
  guard([&] { delete store; });
}

char* byol_c10d_store_set(const StoreHandle* store, const char* key, const char* value, size_t length) {
  return guard([&] { store->store->set(key, std::vector<uint8_t>(value, value + length)); });
}

// Waits until the key is there.
char* byol_c10d_store_get(
    const StoreHandle* store, const char* key, int64_t timeout_ms, char** value, size_t* length) {
  return guard([&] {
    store->store->wait({key}, milliseconds(timeout_ms));
    auto bytes = store->store->get(key);
    *value = text_of(std::string(bytes.begin(), bytes.end()));
    *length = bytes.size();
  });
}

char* byol_c10d_store_has(const StoreHandle* store, const char* key, bool* out) {
  return guard([&] { *out = store->store->check({key}); });
}

// From now on no wait of this store's groups lasts.
void byol_c10d_store_abandon(const StoreHandle* store) {
  store->pulse->abandon();
}

// Ends the process, whatever its threads wait for: nothing is cleaned up, which might wait for the same.
void byol_c10d_end_process() {
  std::_Exit(1);
}

// Waits for other ranks that came to an end, and whether one goes on now.
void byol_c10d_store_pulse(const StoreHandle* store, uint64_t* waits, bool* waiting) {
  *waits = store->pulse->waits;
  *waiting = store->pulse->waiting > 0;
}

// `address` is this rank's own, as the others reach it; `interface` names a network interface instead, or is NULL.
char* byol_c10d_group_open(
    const StoreHandle* store,
    const char* prefix,
    int rank,
    int ranks,
    const char* address,
    const char* interface,
    int64_t timeout_ms,
    Group** out) {
  return guard([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout_ms));
    options->threads = 2;
    options->devices.push_back(
        interface != nullptr ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                             : c10d::ProcessGroupGloo::createDeviceForHostname(address));
    auto prefixed = c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(prefixed, rank, ranks, options);
    *out = new Group{std::move(gloo), store->pulse};
  });
}

// The same on CUDA devices, by what cuda.cc gives for it.
char* byol_c10d_group_open_nccl(
    const StoreHandle* store,
    NcclOpen open,
    const char* prefix,
    int rank,
    int ranks,
    int64_t timeout_ms,
    Group** out,
    char** nccl_says) {
  return guard([&] {
    c10::intrusive_ptr<c10d::Store> prefixed = c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
    c10::intrusive_ptr<c10d::Backend> nccl;
    *nccl_says = open(&prefixed, rank, ranks, timeout_ms, &nccl);
    if (*nccl_says != nullptr) {
      return;
    }
    {
      std::lock_guard<std::mutex> lock(store->pulse->mutex);
      store->pulse->on_device.push_back(nccl);
    }
    *out = new Group{std::move(nccl), store->pulse, true, milliseconds(timeout_ms)};
  });
}

// The host waits for what the group was asked to do.
char* byol_c10d_settle(Group* group) {
  return guard([&] { group->settle(); });
}

// A group that was given up has threads that wait for a rank that never answers: it is left alone until the process ends.
void byol_c10d_group_free(Group* group) {
  if (!group->pulse->abandoned) {
    guard([&] {
      if (group->on_device) {
        group->pulse->forget(group->backend);
        group->backend->shutdown();
      }
      delete group;
    });
  }
}

char* byol_c10d_sum(Group* group, const Tensor* tensor) {
  return guard([&] { group->sum(*tensor); });
}

char* byol_c10d_broadcast(Group* group, const Tensor* tensor, int root) {
  return guard([&] { group->broadcast(*tensor, root); });
}

char* byol_c10d_batch_norm(
    Group* group,
    const Tensor* x,
    const Tensor* weight,
    const Tensor* bias,
    const Tensor* batch_mean,
    const Tensor* batch_variance,
    double eps,
    Tensor** out) {
  return guard([&] {
    const Tensor none;
    auto y = RanksBatchNorm::apply(
        *x, weight ? *weight : none, bias ? *bias : none, *batch_mean, *batch_variance, eps, group);
    *out = new Tensor(std::move(y));
  });
}

// Whether CUDA's convolutions and matrix products of float32 may round their factors to TF32.
char* byol_torch_allow_tf32(bool allowed) {
  return guard([&] {
    at::globalContext().setAllowTF32CuDNN(allowed);
    at::globalContext().setAllowTF32CuBLAS(allowed);
  });
}

char* byol_torch_tf32_allowed(bool* convolutions, bool* products) {
  return guard([&] {
    *convolutions = at::globalContext().allowTF32CuDNN();
    *products = at::globalContext().allowTF32CuBLAS();
  });
}

// Bytes in memory that a CUDA device reads by itself, so that the host need not wait until they are there.
char* byol_torch_pinned(const uint8_t* bytes, size_t length, Tensor** out) {
  return guard([&] {
    auto options = at::TensorOptions(at::kByte).pinned_memory(true);
    Tensor pinned = at::empty({static_cast<int64_t>(length)}, options);
    std::memcpy(pinned.mutable_data_ptr(), bytes, length);
    *out = new Tensor(std::move(pinned));
  });
}

// Where the gradient of `leaf` goes from now on.
char* byol_c10d_bind_gradient(const Tensor* leaf, const Tensor* gradient) {
  return guard([&] { leaf->mutable_grad() = *gradient; });
}

char* byol_c10d_reducer_new(Group* group, ReducerHandle** out) {
  return guard([&] { *out = new ReducerHandle{std::make_shared<Reducer>(group)}; });
}

void byol_c10d_reducer_free(ReducerHandle* reducer) {
  delete reducer;
}

char* byol_c10d_reducer_add(ReducerHandle* reducer, const Tensor* first, const Tensor* second, size_t* bucket) {
  return guard([&] { *bucket = reducer->reducer->add_bucket(*first, *second); });
}

// The bucket is filled once every leaf that was given here has its gradient.
char* byol_c10d_reducer_watch(ReducerHandle* reducer, size_t bucket, const Tensor* leaf) {
  return guard([&] {
    reducer->reducer->expect(bucket);
    torch::autograd::impl::set_post_acc_grad_hooks(*leaf, std::make_unique<FilledHook>(reducer->reducer, bucket));
  });
}

void byol_c10d_reducer_arm(ReducerHandle* reducer) {
  reducer->reducer->arm();
}

char* byol_c10d_reducer_finish(ReducerHandle* reducer) {
  return guard([&] { reducer->reducer->finish(); });
}

} // extern "C"
