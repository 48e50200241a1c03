"""The rooms of the delegate: a library for each folder, which includes from the rooms in its deps."""

COPTS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
]

def shadow_room(name, deps, exclude = [], **kwargs):
    """The sources of this folder, but for those of `exclude`."""
    native.cc_library(
        name = name,
        srcs = native.glob(
            ["*.cc"],
            exclude = exclude,
        ),
        hdrs = native.glob(["*.h"]),
        copts = COPTS,
        includes = [".."],
        linkstatic = True,
        visibility = ["//delegate:__subpackages__"],
        deps = deps,
        **kwargs
    )
