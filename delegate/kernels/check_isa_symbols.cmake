# Fails if an ISA file's object shares a function with the rest of the library: the linker keeps one copy of an inline
# function, and if that is the one compiled for AVX-512, every other machine stops with an illegal instruction.
# cmake -DNM=nm -DLIBRARY=libshadow_kernels.a -P check_isa_symbols.cmake
execute_process(COMMAND ${NM} -A -C ${LIBRARY} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${NM} cannot read ${LIBRARY}")
endif()
string(REPLACE ";" "," symbols "${symbols}")
string(REPLACE "\n" ";" symbols "${symbols}")
set(shared "")
foreach(line IN LISTS symbols)
  # Weak definitions of the ISA files, except those that name their ISA or are private to their file, and the bookkeeping
  # of exceptions and sanitizers.
  if(line MATCHES ":(x86|arm64)_[a-z0-9]+\\.cc\\.o:.* [WVu] " AND
     NOT line MATCHES "shadow::(avx2|avx512|avx512fp16|avx512vbmi2|neon|neonfp16)::|\\(anonymous namespace\\)|DW\\.ref|asan|ubsan")
    string(APPEND shared "\n  ${line}")
  endif()
endforeach()
if(shared)
  message(FATAL_ERROR "compiled with the flags of one ISA, but shared with all:${shared}")
endif()
