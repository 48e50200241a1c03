"""The subcommands of `shadowattn`, one module each; the contract they keep is in shadowattn.runtime.cli."""
