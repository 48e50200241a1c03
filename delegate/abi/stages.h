// shadow_append and shadow_attend: the op's steps, called without a graph (shadow_abi.h).
#ifndef SHADOWATTN_DELEGATE_ABI_STAGES_H_
#define SHADOWATTN_DELEGATE_ABI_STAGES_H_

#include "abi/shadow_abi.h"
#include "base/status.h"
#include "engine/engine.h"

namespace shadow {

Status RunAppend(const ShadowChunk* chunk, ShadowEstimateInputs* inputs, Engine* engine);
Status RunAttend(const ShadowChunk* chunk, const ShadowHeads* heads, Engine* engine);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ABI_STAGES_H_
