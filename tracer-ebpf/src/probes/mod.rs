//! One file per kernel function or tracepoint.

mod state;
