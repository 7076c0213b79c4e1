//! Ordered, batched delivery to one peer.
