"""What knows ComfyUI's inside, and its versions: models, folders, schemas, memory, previews. The nodes stand beside it."""
