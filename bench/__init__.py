import warnings

# packages that script functions at import, which torch has deprecated; nothing that a user could act upon
warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
