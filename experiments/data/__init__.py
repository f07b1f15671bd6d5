"""Images in: readers, decoding, the cache, the splits."""
