import warnings

# torch-fidelity 0.4 scripts a resizer at import, which torch has deprecated; nothing a user could act upon
warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
