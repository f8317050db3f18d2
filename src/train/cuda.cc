// What `tch` does not bind of libtorch's CUDA half: a step recorded as a CUDA graph, and c10d's process group over NCCL.
// A library of its own (src/native/cuda.sh), which cuda.rs opens where training runs on CUDA: so the program itself needs
// no CUDA, neither to be built nor to run. Its undefined symbols are those of the libtorch_cuda that is loaded by then.
//
// Every function returns NULL, or an owned text that says what went wrong (byol_cuda_text_free).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

// The headers of torch name these of cuBLAS, cuSPARSE, cuSOLVER and NCCL, whose wheels take 700 MB. The handles are behind
// pointers that only libtorch follows. cuda.sh puts empty files in the place of their headers.
struct cublasContext;
typedef struct cublasContext* cublasHandle_t;
typedef struct cublasLtContext* cublasLtHandle_t;
typedef struct cusparseContext* cusparseHandle_t;
typedef struct cusolverDnContext* cusolverDnHandle_t;
typedef int cublasStatus_t;
typedef int cusparseStatus_t;
typedef int cusolverStatus_t;

// NCCL's own are values: of 2.28.9, which torch 2.11.0 for CUDA was built with. `byol_cuda_nccl_open` refuses another.
#include <cuda_runtime_api.h>
#include <climits>
#define NCCL_VERSION(x, y, z) ((x) * 10000 + (y) * 100 + (z))
#define NCCL_MAJOR 2
#define NCCL_MINOR 28
#define NCCL_PATCH 9
#define NCCL_VERSION_CODE NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH)
#define NCCL_SPLIT_NOCOLOR (-1)
typedef struct ncclComm* ncclComm_t;
typedef struct ncclWindow_vidmem* ncclWindow_t;
struct ncclUniqueId {
  char internal[128];
};
enum ncclResult_t { ncclSuccess = 0, ncclRemoteError = 6, ncclInProgress = 7 };
enum ncclRedOp_t { ncclSum = 0 };
enum ncclDataType_t {
  ncclInt8,
  ncclUint8,
  ncclInt32,
  ncclUint32,
  ncclInt64,
  ncclUint64,
  ncclHalf,
  ncclFloat,
  ncclDouble,
  ncclBfloat16,
  ncclFloat8e4m3,
  ncclFloat8e5m2
};
struct ncclConfig_t {
  size_t size = sizeof(ncclConfig_t);
  unsigned int magic = 0xcafebeef;
  unsigned int version = NCCL_VERSION_CODE;
  int blocking = INT_MIN, cga_cluster_size = INT_MIN, min_ctas = INT_MIN, max_ctas = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN, traffic_class = INT_MIN;
  const char* comm_name = nullptr;
  int collnet_enable = INT_MIN, cta_policy = INT_MIN, shrink_share = INT_MIN, nvls_ctas = INT_MIN;
  int channels_per_net_peer = INT_MIN, nvlink_centric_sched = INT_MIN;
};
#define NCCL_CONFIG_INITIALIZER \
  {}
extern "C" const char* ncclGetErrorString(ncclResult_t);
extern "C" ncclResult_t ncclRedOpDestroy(ncclRedOp_t, ncclComm_t);

#define USE_C10D_NCCL
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/core/CachingHostAllocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/cuda/nccl.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "guard.h"

namespace {

using byol::guard;

// Makes what is asked of `after` from now on come behind what was asked of `before`.
void order(const c10::cuda::CUDAStream& before, const c10::cuda::CUDAStream& after) {
  c10::cuda::CUDAEvent event;
  event.record(before);
  event.block(after);
}

// A step's kernels, and the stream that they are recorded on: CUDA records on none that others use.
struct Graph {
  explicit Graph(c10::DeviceIndex device)
      : stream(c10::cuda::getStreamFromPool(false, device)),
        outside(c10::cuda::getCurrentCUDAStream(device)),
        outside_device(device) {}

  c10::cuda::CUDAStream stream, outside;
  c10::DeviceIndex outside_device;
  std::unique_ptr<at::cuda::CUDAGraph> graph;
  c10::cuda::MempoolId_t pool{0, 0};

  void begin() {
    // What earlier steps left unused is given back: the graph keeps memory of its own.
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    graph = std::make_unique<at::cuda::CUDAGraph>();
    pool = at::cuda::graph_pool_handle();
    try {
      graph->capture_begin(pool);
    } catch (...) {
      give_up();
      throw;
    }
  }

  void end() {
    try {
      graph->capture_end();
    } catch (...) {
      give_up();
      throw;
    }
  }

  // libtorch leaves a recording that failed half open: its stream, and the allocators' memory for it.
  void give_up() noexcept {
    if (graph == nullptr) {
      return;
    }
    auto quietly = [](auto close) noexcept {
      try {
        close();
      } catch (...) {
        // It was not open.
      }
    };
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &status) != cudaSuccess || status != cudaStreamCaptureStatusNone) {
      cudaGraph_t part = nullptr;
      if (cudaStreamEndCapture(stream, &part) == cudaSuccess && part != nullptr) {
        cudaGraphDestroy(part);
      }
    }
    quietly([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(stream.device_index(), pool); });
    quietly([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool); });
    quietly([&] { c10::cuda::CUDACachingAllocator::releasePool(stream.device_index(), pool); });
    quietly([&] { at::getHostAllocator(at::kCUDA)->release_pool(pool); });
    graph.reset();
    // What the runtime remembers as its last error is said by now.
    (void)cudaGetLastError();
  }
};

// NCCL's process group whose errors end nothing by themselves: c10d.cc looks for them while it waits, and the watch knows
// names. (Left alone, torch's watchdog ends the process.)
class Nccl : public c10d::ProcessGroupNCCL {
 public:
  Nccl(c10::intrusive_ptr<c10d::Store> store, int rank, int ranks, c10::intrusive_ptr<Options> options)
      : ProcessGroupNCCL(std::move(store), rank, ranks, std::move(options)) {
    asyncErrorHandling_ = c10d::NoHandling;
  }
};

} // namespace

extern "C" {

#define BYOL_EXPORT __attribute__((visibility("default")))

// The version of byol that this belongs to.
BYOL_EXPORT const char* byol_cuda_version() {
  return BYOL_VERSION;
}

BYOL_EXPORT void byol_cuda_text_free(char* text) {
  delete[] text;
}

BYOL_EXPORT char* byol_cuda_graph_new(int device, Graph** out) {
  return guard([&] {
    TORCH_CHECK(c10::cuda::device_count_ensure_non_zero() > device, "there is no CUDA device ", device);
    *out = new Graph(static_cast<c10::DeviceIndex>(device));
  });
}

BYOL_EXPORT void byol_cuda_graph_free(Graph* graph) {
  guard([&] { delete graph; });
}

// What this thread asks for from now on goes to the graph's stream, behind what was asked before.
BYOL_EXPORT char* byol_cuda_graph_enter(Graph* graph) {
  return guard([&] {
    // What records asks for the current device.
    graph->outside_device = c10::cuda::current_device();
    c10::cuda::set_device(graph->stream.device_index());
    graph->outside = c10::cuda::getCurrentCUDAStream(graph->stream.device_index());
    order(graph->outside, graph->stream);
    c10::cuda::setCurrentCUDAStream(graph->stream);
  });
}

// And now it goes to the former stream again.
BYOL_EXPORT char* byol_cuda_graph_leave(Graph* graph) {
  return guard([&] {
    c10::cuda::setCurrentCUDAStream(graph->outside);
    order(graph->stream, graph->outside);
    c10::cuda::set_device(graph->outside_device);
  });
}

// From now on what this thread asks for, after `enter`, is recorded and not carried out.
BYOL_EXPORT char* byol_cuda_graph_begin(Graph* graph) {
  return guard([&] { graph->begin(); });
}

// The recording is complete.
BYOL_EXPORT char* byol_cuda_graph_end(Graph* graph) {
  return guard([&] { graph->end(); });
}

// The recording failed: nothing of it is left.
BYOL_EXPORT void byol_cuda_graph_give_up(Graph* graph) {
  graph->give_up();
}

// Carries out what was recorded.
BYOL_EXPORT char* byol_cuda_graph_replay(Graph* graph) {
  return guard([&] { graph->graph->replay(); });
}

// A process group over NCCL on the store, which it shares. c10d.cc calls it, and owns what it makes.
BYOL_EXPORT char* byol_cuda_nccl_open(
    const c10::intrusive_ptr<c10d::Store>* store,
    int rank,
    int ranks,
    int64_t timeout_ms,
    c10::intrusive_ptr<c10d::Backend>* out) {
  return guard([&] {
    c10::cuda::device_count_ensure_non_zero();
    const auto found = torch::cuda::nccl::version();
    constexpr uint64_t expected = (uint64_t{NCCL_MAJOR} << 32) | (uint64_t{NCCL_MINOR} << 16) | NCCL_PATCH;
    TORCH_CHECK(
        found == expected,
        "NCCL is ",
        found >> 32,
        ".",
        (found >> 16) & 0xffff,
        ".",
        found & 0xffff,
        ", and 2.28.9 is what torch 2.11.0 comes with");
    auto options = Nccl::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    *out = c10::make_intrusive<Nccl>(*store, rank, ranks, std::move(options));
  });
}

} // extern "C"
