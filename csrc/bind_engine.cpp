#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <set>
#include <stdexcept>
#include <string>

#include "core/engine.h"
#include "core/fold.h"
#include "core/live.h"

namespace py = pybind11;
using namespace mtfa;

namespace {

using Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

Tensors tensors_of(const std::map<std::string, Array>& arrays) {
  Tensors tensors;
  for (const auto& [name, array] : arrays) {
    tensors.add(name, {array.data(), std::vector<int64_t>(array.shape(), array.shape() + array.ndim())});
  }
  return tensors;
}

Precision precision_of(const std::string& name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "bf16") return Precision::bf16;
  if (name == "int8") return Precision::int8;
  throw std::invalid_argument("precision: got " + name + ", allowed: fp32, bf16, int8");
}

std::map<std::string, Array> folded(const std::map<std::string, Array>& arrays) {
  const Folded out = fold(tensors_of(arrays));
  std::map<std::string, Array> found;
  for (const auto& [name, tensor] : out.tensors.all()) found.emplace(name, Array(tensor.shape, tensor.data));
  return found;
}

std::shared_ptr<Engine> make_engine(const std::string& variant, int channels, int hidden, int classes, int pooling,
                                    bool mask_projection, const std::map<std::string, Array>& arrays,
                                    std::shared_ptr<const LogMel> log_mel, const std::string& isa,
                                    const std::string& precision) {
  const NetworkShape shape{parse_variant(variant), channels, hidden,         classes,
                           log_mel->mel_bands(),   pooling,  mask_projection};
  shape.check();
  const Tensors tensors = tensors_of(arrays);
  const Isa chosen = parse_isa(isa);
  const Precision numbers = precision_of(precision);
  py::gil_scoped_release release;
  return std::make_shared<Engine>(shape, tensors, std::move(log_mel), chosen, numbers);
}

Array probabilities(const Engine& engine, const Array& log_mel, int threads) {
  const NetworkShape& shape = engine.shape();
  if (log_mel.ndim() != 3 || log_mel.shape(1) < 1 || log_mel.shape(2) != shape.mel_bands) {
    throw std::invalid_argument("log_mel: allowed: (batch, frames >= 1, " + std::to_string(shape.mel_bands) + ")");
  }
  const auto batch = log_mel.shape(0), frames = log_mel.shape(1);
  Array out({batch, frames, static_cast<py::ssize_t>(shape.classes)});
  const float* in = log_mel.data();
  float* to = out.mutable_data();
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  engine.probabilities(in, batch, frames, to, pool);
  return out;
}

Array tap(const Engine& engine, const std::string& name, const Array& log_mel, int threads) {
  const NetworkShape& shape = engine.shape();
  if (log_mel.ndim() != 2 || log_mel.shape(0) < 1 || log_mel.shape(1) != shape.mel_bands) {
    throw std::invalid_argument("log_mel: allowed: (frames >= 1, " + std::to_string(shape.mel_bands) + ")");
  }
  const float* in = log_mel.data();
  const int64_t frames = log_mel.shape(0);
  ThreadPool& pool = shared_pool(threads);
  Engine::Map map;
  {
    py::gil_scoped_release release;
    map = engine.tap(name, in, frames, pool);
  }
  return Array(
      {static_cast<py::ssize_t>(map.rows), static_cast<py::ssize_t>(map.width), static_cast<py::ssize_t>(map.channels)},
      map.values.data());
}

Array recurrent(const Engine& engine, const Array& vectors, int threads) {
  const NetworkShape& shape = engine.shape();
  const int length = shape.mel_bands / shape.pooling * shape.channels;
  if (vectors.ndim() != 2 || vectors.shape(0) < 1 || vectors.shape(1) != length) {
    throw std::invalid_argument("vectors: allowed: (frames >= 1, " + std::to_string(length) + ")");
  }
  const int64_t frames = vectors.shape(0);
  Array out({static_cast<py::ssize_t>(frames), static_cast<py::ssize_t>(shape.classes)});
  const float* in = vectors.data();
  float* to = out.mutable_data();
  ThreadPool& pool = shared_pool(threads);
  py::gil_scoped_release release;
  engine.recurrent(in, frames, to, pool);
  return out;
}

Array taken(LiveStream& stream) {
  const std::vector<float> rows = stream.take();
  const auto classes = static_cast<py::ssize_t>(stream.classes());
  return Array({static_cast<py::ssize_t>(rows.size()) / classes, classes}, rows.data());
}

std::vector<Array> push_live(const std::vector<LiveStream*>& streams, const std::vector<Array>& samples, int threads) {
  const std::set<LiveStream*> different(streams.begin(), streams.end());
  if (streams.size() != samples.size() || different.size() != streams.size() || different.count(nullptr)) {
    throw std::invalid_argument("streams: allowed: different ones, as many as blocks of samples");
  }
  std::vector<const float*> data;
  std::vector<int64_t> counts;
  for (const Array& block : samples) {
    if (block.ndim() != 1) throw std::invalid_argument("samples: allowed: (n,)");
    data.push_back(block.data());
    counts.push_back(block.size());
  }
  ThreadPool& pool = shared_pool(threads);
  {
    py::gil_scoped_release release;
    push_together(streams.data(), data.data(), counts.data(), static_cast<int64_t>(streams.size()), pool);
  }
  std::vector<Array> found;
  for (LiveStream* stream : streams) found.push_back(taken(*stream));
  return found;
}

}  // namespace

void register_engine(py::module_& m) {
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const SpillError& e) {
      const py::tuple arguments = py::make_tuple(e.code, e.what());
      PyErr_SetObject(PyExc_OSError, arguments.ptr());
    }
  });
  m.def("fold", &folded, py::arg("tensors"),
        "The tensors of a weight file as the engines want them: batch norm folded in double precision, GRU biases "
        "joined; all float32.");

  py::class_<Engine, std::shared_ptr<Engine>>(m, "Engine", "The network on the CPU; any number of threads may use one.")
      .def(py::init(&make_engine), py::kw_only(), py::arg("variant"), py::arg("channels"), py::arg("hidden"),
           py::arg("classes"), py::arg("pooling"), py::arg("mask_projection"), py::arg("tensors"), py::arg("log_mel"),
           py::arg("isa"), py::arg("precision"))
      .def("probabilities", &probabilities, py::arg("log_mel"), py::arg("threads"),
           "Raw log-mel (batch, frames, mel_bands) -> (batch, frames, classes) float32.")
      .def("stage_names", &Engine::stage_names, "Stages for tap(), named as the torch modules that make the same.")
      .def("map_names", &Engine::map_names, "Feature maps for tap(): of the stages, and within residual blocks.")
      .def("tap", &tap, py::arg("name"), py::arg("log_mel"), py::arg("threads"),
           "What one stage makes of raw log-mel (frames, mel_bands): (rows, width, channels) float32, frames padded to "
           "a multiple of 8; \"masks\" (rows, bands, channels), \"gate\" (rows, bands / pooling, channels), "
           "\"gru\" (rows, 2, hidden). ValueError on another name.")
      .def("recurrent", &recurrent, py::arg("vectors"), py::arg("threads"),
           "The recurrent part alone: (frames, mel_bands / pooling * channels) -> (frames, classes) float32.");

  py::class_<LiveStream>(m, "LiveStream", "A stream without end; not for several threads at once.")
      .def(py::init([](std::shared_ptr<Engine> engine, int chunk, int look_ahead) {
             return std::make_unique<LiveStream>(std::move(engine), LiveShape{chunk, look_ahead});
           }),
           py::arg("engine"), py::arg("chunk"), py::arg("look_ahead"))
      .def_property_readonly("delay", &LiveStream::delay, "Frames after which each frame is answered at the latest.")
      .def(
          "push_log_mel",
          [](LiveStream& stream, const Array& rows, int bands, int threads) {
            if (rows.ndim() != 2 || rows.shape(1) != bands) throw std::invalid_argument("log_mel: allowed: (n, bands)");
            const float* data = rows.data();
            const int64_t count = rows.shape(0);
            ThreadPool& pool = shared_pool(threads);
            {
              py::gil_scoped_release release;
              stream.push_log_mel(data, count, pool);
            }
            return taken(stream);
          },
          py::arg("rows"), py::arg("bands"), py::arg("threads"))
      .def(
          "finish",
          [](LiveStream& stream, int threads) {
            ThreadPool& pool = shared_pool(threads);
            {
              py::gil_scoped_release release;
              stream.finish(pool);
            }
            return taken(stream);
          },
          py::arg("threads"), "The last frames' probabilities.");
  m.def(
      "push_live", &push_live, py::arg("streams"), py::arg("samples"), py::arg("threads"),
      "Mono samples (n,) for each of some different streams -> the probabilities (frames, classes) that became final.");

  py::class_<Stream>(m, "Stream", "One recording in blocks of any size; not for several threads at once.")
      .def(py::init([](std::shared_ptr<Engine> engine, int64_t memory, const std::string& folder) {
             return std::make_unique<Stream>(std::move(engine), MemoryLimit{memory, folder});
           }),
           py::arg("engine"), py::arg("memory"), py::arg("folder"),
           "Frames beyond `memory` bytes are kept in a file in `folder`; OSError where it cannot hold them.")
      .def(
          "push_samples",
          [](Stream& stream, const Array& samples, int threads) {
            if (samples.ndim() != 1) throw std::invalid_argument("samples: allowed: (n,)");
            const float* data = samples.data();
            const int64_t count = samples.size();
            ThreadPool& pool = shared_pool(threads);
            py::gil_scoped_release release;
            stream.push_samples(data, count, pool);
          },
          py::arg("samples"), py::arg("threads"))
      .def(
          "finish",
          [](Stream& stream, int classes, int threads) {
            ThreadPool& pool = shared_pool(threads);
            {
              py::gil_scoped_release release;
              stream.close(pool);
            }
            Array out({static_cast<py::ssize_t>(stream.frames()), static_cast<py::ssize_t>(classes)});
            float* to = out.mutable_data();
            py::gil_scoped_release release;
            stream.probabilities(to, pool);
            return out;
          },
          py::arg("classes"), py::arg("threads"), "Frame probabilities (frames, classes) of all that was pushed.");
}
