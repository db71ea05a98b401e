//! The ceilings: one file each. A ceiling has a usage and a limit, and says where it read them.

pub mod ephemeral_ports;
