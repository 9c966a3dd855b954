"""May this request be answered? Contexts, access, signatures, windows."""
