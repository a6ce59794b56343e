//! Hashes that the original programs made, which `hashes.txt` names.

use std::time::Instant;

use idm_plan::LegacyFormat;

use super::*;

const PASSWORD: &str = "pässwörd €1";

/// Lines of program, legacy format and stored password.
const HASHES: &str = include_str!("hashes.txt");

/// Program, stored password, and the format if it is a legacy one.
fn hashes() -> Vec<(&'static str, &'static str, Option<LegacyFormat>)> {
    let lines = HASHES.lines().filter(|line| !line.starts_with('#'));
    let read = lines.map(|line| {
        let [program, legacy, text] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let legacy = (legacy != "-").then(|| serde_json::from_value(legacy.into()).unwrap());
        (program, text, legacy)
    });
    read.collect()
}

fn unreadable(text: &str) -> String {
    match Stored::read(text) {
        Err(NotStored::Unreadable(why)) => why,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn r49_hashes_of_the_original_programs_fit_their_password_alone() {
    let hashes = hashes();
    assert_eq!(hashes.len(), 50);
    for (program, text, legacy) in hashes {
        let stored = Stored::read(text).unwrap_or_else(|error| panic!("{program} {text}: {error}"));
        assert!(stored.fits(PASSWORD), "{program} {text}");
        assert!(!stored.fits("pässwörd €2") && !stored.fits(""), "{program} {text}");
        assert_eq!(stored.legacy_format(), legacy, "{program} {text}");
        assert!(!stored.is_current(), "{program} {text}");
        let decoy = stored.decoy();
        assert!(!decoy.fits(PASSWORD), "{program} {text}");
        assert_eq!((decoy.cost(), decoy.legacy_format()), (stored.cost(), legacy));
        assert!(!format!("{stored:?}").contains(text.rsplit('$').next().unwrap()), "{stored:?}");
    }
}

#[test]
fn r49_long_passwords_are_hashed_as_the_original_programs_do() {
    let fits = |text: &str, length: usize| Stored::read(text).unwrap().fits(&"x".repeat(length));
    for (text, length) in [
        ("$6$abcdefgh$tpP3/LI4wMLKhgKp8bTwVQweEEM46u1QVpxJ4s7//kd/n92pnKvxNc51RM.csWa9OlZn10Z4pRopwomQmhBXx1", 200),
        ("$5$abcdefgh$p1DRMssem7UX3RykoeHgHd2cOJOmkx4pzILzbY0TMm9", 200),
        ("$1$abcdefgh$z6x8uc2YR4Iwn7XrK8ZMY/", 200),
        ("$P$6Ar2poenkF6MnEXh.RysDrQH/9iJmg1", 200),
        ("$2b$04$abcdefghijklmnopqrstuu.gc7UY/21CSNJGJg21jJzx9QiOpJ9bO", 71),
    ] {
        assert!(fits(text, length) && !fits(text, length - 1) && !fits(text, length + 1), "{text}");
    }
}

/// bcrypt takes 72 octets with the NUL at the end, and crypt(3) sees nothing behind a NUL. All of libxcrypt.
#[test]
fn r49_bcrypt_ignores_what_follows_72_octets_or_a_nul() {
    for variant in ["2a", "2b", "2x", "2y"] {
        let read = |hash: &str| Stored::read(&format!("${variant}$04$abcdefghijklmnopqrstuu{hash}")).unwrap();
        let of_72 = read("bzadhGtS2zEF.gu0yd0opP6cVzb.e0i");
        assert!(of_72.fits(&"x".repeat(72)) && of_72.fits(&format!("{}tail", "x".repeat(72))));
        assert!(!of_72.fits(&"x".repeat(71)));
        assert!(read("wurWIdVVT4m5pTArtqnFNM69nySdHj.").fits(&"y".repeat(300)));
        let of_nul = read("Ci15uRb1eH7NAlJ/TgeJertyknQpYn2");
        assert!(of_nul.fits("abc") && of_nul.fits("abc\0def") && !of_nul.fits("abcdef"));
    }
    // Django's bcrypt_sha256 sees all of it, a NUL too.
    let stored = "bcrypt_sha256$$2b$05$59uqZHUCM3/LzxR9Bpm7Ien0CsxrGdjhxcSerwQQ47lvEhQZqG3gO";
    assert!(!Stored::read(stored).unwrap().fits("pässwörd €1\0"));
}

#[test]
fn r49_formats_that_are_not_listed_are_refused_without_being_shown() {
    for text in [
        "$7$CU..../....abcdefgh$bEKSZSZHOodKsctQ3GRhVp/ACmqGbMwpnzgCVO3O8n/",
        "$9$secret",
        "$",
        "{MD5}secret===",
        "{sha256}secret",
        "{broken",
        "$2b$05$secret",
        "{bcrypt}$2q$05$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS",
        "$argon2id$v=19$m=256,t=2,p=2,keyid=secret$nP1EHYXctdbOMEkmBsjGEQ$FTQnKW24bhals9qgiD9A+JNRlM2qOMje9DqnsnPceGg",
        "$argon2id$v=20$m=256,t=2,p=2$nP1EHYXctdbOMEkmBsjGEQ$FTQnKW24bhals9qgiD9A+JNRlM2qOMje9DqnsnPceGg",
        "pbkdf2_sha256$+1000$seasalt$Z/2BG5E0mLDOAYWcOMWg60w+He1GpsKyuK9H2JOKP0g=",
        "$y$zzzzzzzzzzzz$abc$MZtzpPWcHJIzFEty8q8jCwlAqVxf5lGcicN3fW88/y5",
        "$y$j9T",
        "$5$rounds=999$ab$Ygo2OTnXbIqhvAC2s1EGqmPAUcLVRUuGXVzisTsDn3/",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        &"a".repeat(1025),
    ] {
        let why = unreadable(text);
        assert!(why.starts_with("a stored password ") && !why.contains("secret"), "{text}: {why}");
    }
    for text in ["", "!", "*", "!$6$abcdefgh$locked", "!3p8vindFdKnXQU6ksqwGxVweKBXY74SnZg1OIsFJ", "{noop}"] {
        assert_eq!(Stored::read(text).unwrap_err(), NotStored::None, "{text}");
    }
}

#[test]
fn r50_costs_above_the_limits_are_refused_at_once_and_told() {
    let hash = "FTQnKW24bhals9qgiD9A+JNRlM2qOMje9DqnsnPceGg";
    let began = Instant::now();
    for (text, told) in [
        (format!("$argon2id$v=19$m=262145,t=1,p=1$nP1EHYXctdbOMEkmBsjGEQ${hash}"), "argon2id m=262145,t=1,p=1"),
        (format!("$argon2id$v=19$m=262144,t=5,p=1$nP1EHYXctdbOMEkmBsjGEQ${hash}"), "argon2id m=262144,t=5,p=1"),
        (format!("$argon2d$v=19$m=4294967295,t=4294967295,p=1$nP1EHYXctdbOMEkmBsjGEQ${hash}"), "argon2d m=4294967295"),
        (format!("$scrypt$ln=19,r=8,p=1$ylkL4XxPSSklZAzBWCvFmA${hash}"), "scrypt N=524288,r=8,p=1"),
        (format!("$scrypt$ln=1,r=1,p=4294967295$ylkL4XxPSSklZAzBWCvFmA${hash}"), "scrypt N=2,r=1,p=4294967295"),
        (format!("$pbkdf2-sha256$5000001$4vw/ByCkNGZsLSVkzHlPSQ${hash}"), "pbkdf2-sha256 rounds=5000001"),
        (format!("pbkdf2_sha256$4294967295$seasalt${hash}"), "pbkdf2-sha256 rounds=4294967295"),
        ("$2b$15$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS".into(), "bcrypt cost 15"),
        ("$2b$99$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS".into(), "bcrypt cost 99"),
        (format!("$5$rounds=999999999$ab${hash}"), "sha256-crypt rounds=999999999"),
        ("$y$jJT$abc.$MZtzpPWcHJIzFEty8q8jCwlAqVxf5lGcicN3fW88/y5".into(), "yescrypt N=4194304,r=32,p=1"),
        ("$P$zImRFSC3I2XZ5WRvZnqM/SH..pDH8V/".into(), "phpass cost 63"),
    ] {
        let why = unreadable(&text);
        assert!(why.contains(told) && why.contains("costs too much") && !why.contains(hash), "{why}");
    }
    assert!(began.elapsed().as_millis() < 100, "no row was hashed");
}

#[test]
fn r51_new_hashes_are_current_and_better_ones_are_kept() {
    let first = new_hash(PASSWORD).unwrap();
    let read = Stored::read(&first).unwrap();
    assert!(read.is_current() && read.fits(PASSWORD) && !read.fits("another"));
    assert_eq!(read.cost(), Stored::usual().cost());
    assert_ne!(first, new_hash(PASSWORD).unwrap(), "each hash has a salt of its own");
    let hash = "nP1EHYXctdbOMEkmBsjGEQ$FTQnKW24bhals9qgiD9A+JNRlM2qOMje9DqnsnPceGg";
    let current = |cost: &str| Stored::read(&format!("{cost}${hash}")).unwrap().is_current();
    assert!(current("$argon2id$v=19$m=65536,t=3,p=4") && current("$argon2id$v=19$m=47104,t=1,p=1"));
    assert!(!current("$argon2id$v=19$m=12288,t=3,p=1") && !current("$argon2i$v=19$m=65536,t=3,p=4"));
    assert!(!current("$argon2id$v=16$m=65536,t=3,p=4"));
}

#[test]
fn no_text_makes_the_reader_panic() {
    let texts = hashes().into_iter().map(|(_, text, _)| text);
    for text in texts {
        for (at, _) in text.char_indices() {
            for other in ["", "$", "=", ",", "\0", "€", "9999999999999999999999", "-1", "}", "z"] {
                for tail in ["", text.get(at..).unwrap(), text.get(at..).unwrap().get(1..).unwrap_or_default()] {
                    let _ = Stored::read(&format!("{}{other}{tail}", text.get(..at).unwrap()));
                }
            }
        }
    }
}
