//! Integration tests, one binary: what needs several parts at once, or the real executable.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is the point")]

mod ahead;
mod api_problems;
mod api_service;
mod api_submissions;
mod architecture;
mod attach;
mod caches;
mod cheats;
mod checkers;
mod cluster;
mod collected;
mod command_line;
mod compile_cache;
mod compilers;
mod consul;
mod crash;
mod documents;
mod engine;
mod events;
mod floor;
mod full_disk;
mod hostile;
mod live_settings;
mod load;
mod local;
mod nomad;
mod nomad_contract;
mod openapi;
mod output_order;
mod pages;
mod pool;
mod programs;
mod readme;
mod runner;
mod sandbox;
mod support;
mod task;
mod terminal;
mod trouble;
