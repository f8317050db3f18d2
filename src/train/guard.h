// How the C functions of c10d.cc, cuda.cc and recorder.cc say what went wrong: NULL, or a text that its reader owns.

#pragma once

#include <cstring>
#include <exception>
#include <string>

#include <c10/util/Exception.h>

namespace byol {

inline char* text_of(const std::string& message) {
  char* text = new char[message.size() + 1];
  std::memcpy(text, message.c_str(), message.size() + 1);
  return text;
}

template <typename Body>
char* guard(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return text_of(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return text_of(error.what());
  } catch (...) {
    return text_of("an unknown C++ exception");
  }
}

} // namespace byol
