//! Generates `libs/proto/src/gen` from `proto/`, without protoc.
//!
//! Run `cargo run -p tutti-proto-codegen` after a change of a `.proto` file; CI does the same and fails on a difference.

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let protos = root.join("proto");
    let out = root.join("libs/proto/src/gen");
    let mut files = Vec::new();
    find_protos(&protos, &mut files)?;
    files.sort();

    // The compiler keeps comments, so that docs and reflection carry them.
    let mut compiler = protox::Compiler::new([&protos])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();

    fs::create_dir_all(&out)?;
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::Config::new();
    // Ordered maps: the same message always has the same bytes, which stored hashes and replays rely on.
    config.bytes(["."]).btree_map(["."]).enable_type_names();
    tonic_prost_build::configure()
        .out_dir(&out)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors, config)?;
    for entry in fs::read_dir(&out)? {
        let path = entry?.path();
        // The well-known types come from prost-types.
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("google.")) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn find_protos(dir: &Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn the_checked_in_descriptor_set_decodes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/gen/descriptor.bin");
        let bytes = fs::read(path).unwrap();
        let set = prost_types::FileDescriptorSet::decode(bytes.as_slice()).unwrap();
        assert!(set.file.iter().any(|f| f.package() == "tutti.router.v1"));
    }
}
