//! Any bytes: a configuration of Nginx, with files that it includes, is read to its settings or refused. The first
//! byte that is 0 ends the main file, the next ones the files `0`, `1`, ... beside it.

#![no_main]

use std::{ffi::OsString, io, net::Ipv4Addr, path::Path};

use libfuzzer_sys::fuzz_target;
use socklife::proxies::{
    files::Files,
    nginx::{
        cmdline::{Built, Options},
        leads::Leads,
        read::read,
    },
};

struct Pieces<'a>(Vec<&'a [u8]>);

impl Files for Pieces<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let number = match path.strip_prefix("/c").ok().and_then(Path::to_str) {
            Some("main") => Some(0),
            Some(name) => name.parse::<usize>().ok().and_then(|number| number.checked_add(1)),
            None => None,
        };
        let piece = number.and_then(|number| self.0.get(number));
        piece.map(|piece| piece.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        if directory != Path::new("/c") {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((0..self.0.len() - 1).map(|number| number.to_string().into()).collect())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let options = Options::of(bytes);
    let _ = options.candidates(&Built::of(bytes), Path::new("/"));
    let pieces = Pieces(bytes.split(|&byte| byte == 0).take(8).collect());
    if let Ok(settings) = read(&pieces, Path::new("main"), Path::new("/c"), &options.globals)
        .or_else(|_| read(&pieces, Path::new("main"), Path::new("/c"), ""))
    {
        let _ = Leads::of(&settings).toward(Ipv4Addr::LOCALHOST.into(), 80);
        assert!(settings.files.iter().all(|path| path.to_str().is_some()));
    }
});
