//! One file per kernel function or tracepoint.

mod accept;
mod bind;
mod connect;
mod fd;
mod state;
mod timewait;
