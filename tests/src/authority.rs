use std::path::Path;
use std::process::Command;

/// An authority with its certificates, in a folder of its own.
pub struct Authority {
    dir: tempfile::TempDir,
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' ').map(|word| word.replace('\u{a0}', " ")))
        .current_dir(dir)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl AsRef<Path> for Authority {
    fn as_ref(&self) -> &Path {
        self.dir.path()
    }
}

impl Authority {
    /// An authority of this name.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("done");
        openssl(
            dir.path(),
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 \
                 -subj /CN={name}"
            ),
        );
        std::fs::write(dir.path().join("index.txt"), "").expect("done");
        std::fs::write(dir.path().join("serial"), "01").expect("done");
        std::fs::write(dir.path().join("crlnumber"), "01").expect("done");
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\ncrlnumber=crlnumber\n\
            new_certs_dir=.\ncertificate=ca.crt\nprivate_key=ca.key\ndefault_md=sha256\npolicy=p\n\
            default_crl_days=30\ncopy_extensions=copy\n[p]\ncommonName=supplied\n";
        std::fs::write(dir.path().join("ca.cnf"), config).expect("done");
        Self { dir }
    }

    /// A certificate for `name` with these alternative names and this use, valid until `end` (`20400101000000Z`).
    pub fn issue(&self, name: &str, alternatives: &str, usage: &str, end: &str) {
        self.issue_for("ec -pkeyopt ec_paramgen_curve:P-256", name, alternatives, usage, end);
    }

    /// The same, for a new key of this kind, as `openssl req -newkey` takes it.
    pub fn issue_for(&self, key: &str, name: &str, alternatives: &str, usage: &str, end: &str) {
        let dir = self.dir.path();
        openssl(
            dir,
            &format!(
                "req -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} -addext \
                    subjectAltName={alternatives} -addext extendedKeyUsage={usage}"
            ),
        );
        openssl(
            dir,
            &format!(
                "ca -batch -config ca.cnf -in {name}.csr -out {name}.crt -notext -startdate 20200101000000Z \
                 -enddate {end}"
            ),
        );
    }

    /// Revokes a certificate.
    pub fn revoke(&self, name: &str) {
        openssl(self.dir.path(), &format!("ca -config ca.cnf -revoke {name}.crt"));
    }

    /// Writes the key of a certificate anew, as PKCS#1 or SEC1: what cert-manager does unless told otherwise.
    pub fn write_key_traditionally(&self, name: &str) {
        let dir = self.dir.path();
        openssl(dir, &format!("pkey -in {name}.key -traditional -out {name}.traditional"));
        std::fs::rename(dir.join(format!("{name}.traditional")), dir.join(format!("{name}.key"))).expect("done");
    }

    /// A new revocation list in PEM.
    pub fn revocation_list(&self) -> String {
        openssl(self.dir.path(), "ca -config ca.cnf -gencrl -out ca.crl");
        self.read("ca.crl")
    }

    /// A file of it: `ca.crt`, `NAME.crt`, `NAME.key`.
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).expect("done")
    }

    /// The path of such a file.
    pub fn path(&self, file: &str) -> String {
        self.dir.path().join(file).to_str().expect("done").to_owned()
    }
}

/// A ConfigMap with these values, as YAML.
pub fn config_map(name: &str, values: &[(&str, String)]) -> String {
    secret(name, values).replace("kind: Secret", "kind: ConfigMap").replace("stringData:", "data:")
}

/// A Secret with these values, as YAML.
pub fn secret(name: &str, values: &[(&str, String)]) -> String {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let values: String = values.iter().map(|(key, value)| format!("  {key}: |\n{}", indented(value))).collect();
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n{values}")
}
