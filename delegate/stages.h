// shadow_append and shadow_attend: the op's steps, called without a graph (shadow_abi.h).
#ifndef SHADOWATTN_DELEGATE_STAGES_H_
#define SHADOWATTN_DELEGATE_STAGES_H_

#include "engine.h"
#include "shadow_abi.h"
#include "status.h"

namespace shadow {

Status RunAppend(const ShadowChunk* chunk, ShadowEstimateInputs* inputs, Engine* engine);
Status RunAttend(const ShadowChunk* chunk, const ShadowHeads* heads, Engine* engine);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_STAGES_H_
