//! Builds a container image without a container engine: an OCI archive with one layer.
//!
//! `--binary` packs an executable together with the shared libraries it needs, CA certificates and a
//! passwd with the user it runs as; `--file` packs single files. The same input gives the same bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Parser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Build an OCI archive
#[derive(Parser)]
struct Args {
    /// Name of the image, for example idm.local/idm:1.0
    #[arg(long)]
    reference: String,
    /// The command of the container
    #[arg(long)]
    entrypoint: String,
    /// An executable, put at the entrypoint with everything it needs
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A file, as PATH-IN-IMAGE=PATH-HERE; may be repeated
    #[arg(long)]
    file: Vec<String>,
    /// Path of the archive
    #[arg(long)]
    output: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    if let Some(binary) = &args.binary {
        files.insert(args.entrypoint.clone(), read(binary)?);
        for library in libraries(binary)? {
            files.insert(library.display().to_string(), read(&library)?);
        }
        files.insert("/etc/passwd".into(), b"idm:x:65532:65532:idm:/:/nonexistent\n".to_vec());
        files.insert("/etc/nsswitch.conf".into(), b"hosts: files dns\n".to_vec());
        let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if certificates.exists() {
            files.insert(certificates.display().to_string(), read(certificates)?);
        }
    }
    for file in &args.file {
        let (inside, here) = file.split_once('=').context("--file must be PATH-IN-IMAGE=PATH-HERE")?;
        files.insert(inside.to_owned(), read(Path::new(here))?);
    }
    anyhow::ensure!(files.contains_key(&args.entrypoint), "the entrypoint {} is not among the files", args.entrypoint);
    write_archive(&args, &layer(&files)?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The shared libraries that the loader would take, the loader included.
fn libraries(binary: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(binary).output().context("ldd")?;
    let text = String::from_utf8(output.stdout)?;
    // A statically linked executable has none, and ldd says so with an error.
    let words = text.lines().flat_map(str::split_whitespace).filter(|word| word.starts_with('/'));
    let mut found: Vec<PathBuf> = words.map(PathBuf::from).collect();
    // Names are resolved at run time by these, which are loaded without being linked.
    for name in ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"] {
        found.extend(found.iter().filter_map(|lib| lib.parent()).map(|dir| dir.join(name)).find(|path| path.exists()));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn layer(files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mode = if path.starts_with("/etc/") { 0o644 } else { 0o755 };
        append(&mut tar, path.trim_start_matches('/'), bytes, mode)?;
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    Ok(tar.append_data(&mut header, path, bytes)?)
}

fn write_archive(args: &Args, layer: &[u8]) -> anyhow::Result<()> {
    let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::fast());
    gzip.write_all(layer)?;
    let packed = gzip.finish()?;
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut blob = |bytes: Vec<u8>, media: &str| {
        let (digest, size) = (digest(&bytes), bytes.len());
        blobs.push((digest.clone(), bytes));
        json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": format!("sha256:{digest}"),
            "size": size})
    };
    let layer_descriptor = blob(packed, "layer.v1.tar+gzip");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"architecture": architecture, "os": "linux",
        "config": {"Entrypoint": [args.entrypoint], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]}});
    let config_descriptor = blob(config.to_string().into_bytes(), "config.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_descriptor, "layers": [layer_descriptor],
    });
    let mut manifest_descriptor: Value = blob(manifest.to_string().into_bytes(), "manifest.v1+json");
    manifest_descriptor["annotations"] =
        json!({"io.containerd.image.name": args.reference, "org.opencontainers.image.ref.name": args.reference});
    let mut tar = tar::Builder::new(
        std::fs::File::create(&args.output).with_context(|| format!("cannot write {}", args.output.display()))?,
    );
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(
        &mut tar,
        "index.json",
        json!({"schemaVersion": 2, "manifests": [manifest_descriptor]}).to_string().as_bytes(),
        0o644,
    )?;
    for (digest, bytes) in &blobs {
        append(&mut tar, &format!("blobs/sha256/{digest}"), bytes, 0o644)?;
    }
    tar.finish()?;
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
