// The CPU's double of a CUDA graph, for tests: what libtorch is asked for is recorded operator by operator, with the very
// tensors, and carried out again on the same memory. As on CUDA, only the numbers in that memory can differ then, and
// nothing of it may be read while it is recorded. Called by recorder.rs only; programs do not link it.

#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include "guard.h"

namespace {

struct Call {
  c10::OperatorHandle op;
  torch::jit::Stack inputs, outputs;
};

struct Recording {
  std::vector<Call> calls;
  // What lay in the memory that was written: CUDA carries out nothing of what it records, so it is put back.
  std::vector<std::pair<c10::Storage, std::vector<char>>> before;
  std::set<c10::StorageImpl*> kept;

  void keep(const at::Tensor& tensor) {
    if (tensor.defined() && kept.insert(tensor.storage().unsafeGetStorageImpl()).second) {
      const auto* bytes = static_cast<const char*>(tensor.storage().data());
      before.emplace_back(tensor.storage(), std::vector<char>(bytes, bytes + tensor.storage().nbytes()));
    }
  }

  void put_back() {
    for (auto& [storage, bytes] : before) {
      std::memcpy(storage.mutable_data(), bytes.data(), bytes.size());
    }
    before.clear();
    kept.clear();
  }
};

thread_local Recording* current = nullptr;

// `Fake` lies below autograd, so that the backward pass is seen too, and above all that computes. torch leaves it free.
constexpr auto kKey = c10::DispatchKey::Fake;

void record(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const std::string& name = op.schema().name();
  for (const char* reading : {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"}) {
    if (name == reading) {
      throw std::runtime_error(name + " reads a value while a step is recorded");
    }
  }
  const auto count = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
  torch::jit::Stack inputs(stack->end() - count, stack->end());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto* alias = op.schema().arguments()[i].alias_info();
    if (alias != nullptr && alias->isWrite() && inputs[i].isTensor()) {
      current->keep(inputs[i].toTensor());
    }
  }
  {
    // What an operator asks for itself is its own business.
    c10::impl::ExcludeDispatchKeyGuard inside(kKey);
    op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey), stack);
  }
  const auto returned = static_cast<std::ptrdiff_t>(op.schema().returns().size());
  current->calls.push_back({op, std::move(inputs), {stack->end() - returned, stack->end()}});
}

// What is computed anew goes where it was the first time.
void put(const c10::IValue& from, const c10::IValue& to) {
  if (to.isTensor() && to.toTensor().defined()) {
    to.toTensor().copy_(from.toTensor());
  } else if (to.isTensorList()) {
    auto sources = from.toTensorVector(), places = to.toTensorVector();
    for (size_t i = 0; i < places.size(); ++i) {
      places[i].copy_(sources[i]);
    }
  }
}

} // namespace

TORCH_LIBRARY_IMPL(_, Fake, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&record>());
}

extern "C" {

Recording* byol_recording_new() {
  return new Recording;
}

void byol_recording_free(Recording* recording) {
  delete recording;
}

void byol_recording_begin(Recording* recording) {
  recording->calls.clear();
  current = recording;
  c10::impl::tls_set_dispatch_key_included(kKey, true);
}

// How many operators were recorded.
size_t byol_recording_end(Recording* recording) {
  c10::impl::tls_set_dispatch_key_included(kKey, false);
  current = nullptr;
  recording->put_back();
  return recording->calls.size();
}

char* byol_recording_replay(const Recording* recording) {
  return byol::guard([&] {
    at::AutoDispatchBelowADInplaceOrView below;
    for (const auto& call : recording->calls) {
      torch::jit::Stack stack = call.inputs;
      call.op.callBoxed(&stack);
      for (size_t i = 0; i < call.outputs.size(); ++i) {
        // What is an input's memory, or a view of it, is there already.
        if (call.op.schema().returns()[i].alias_info() == nullptr) {
          put(stack[i], call.outputs[i]);
        }
      }
    }
  });
}

} // extern "C"
