//! Hashes that the original programs made. Each line says which: "libxcrypt" is crypt(3) of Debian 12, called by Perl.

use std::time::Instant;

use idm_plan::LegacyFormat;

use super::*;

const PASSWORD: &str = "pässwörd €1";

/// Program, stored password, and the format if it is a legacy one.
const STORED: &[(&str, &str, Option<LegacyFormat>)] = &[
    (
        "argon2-cffi 25.1",
        "$argon2id$v=19$m=256,t=2,p=2$nP1EHYXctdbOMEkmBsjGEQ$FTQnKW24bhals9qgiD9A+JNRlM2qOMje9DqnsnPceGg",
        None,
    ),
    (
        "argon2-cffi 25.1",
        "$argon2i$v=19$m=256,t=2,p=2$ZWn68omBiQ1x686c0QhkOg$RVglP9DOg9l8fc2v9dqI59jmbJ4j4pekNwF34OP0ubc",
        None,
    ),
    (
        "argon2-cffi 25.1",
        "$argon2d$v=19$m=256,t=2,p=2$iDlGez1A1g7ANPycbJB28w$OmpVMdj6iTNEuLt65kY/1KBLZuNn5Yly3G7QfAnkEmQ",
        None,
    ),
    (
        "argon2-cffi 25.1",
        "$argon2id$v=16$m=256,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$PYnwzxv0IzdbwKOid2aA6KiL6v3NADLxb5pD9tFrNy8",
        None,
    ),
    ("passlib 1.7.4", "$scrypt$ln=8,r=8,p=1$ylkL4XxPSSklZAzBWCvFmA$t5YYVzFkgF+Tf/9Eg3nChtkz+DtTJuL4lTTsTNjWsJs", None),
    ("passlib 1.7.4", "$scrypt$ln=10,r=4,p=3$7L23lnLuHSNESEnpndNa6w$Ne3BRZmhsv699qMGPOicF0V+FQnsePTvzu4xoZysfUw", None),
    ("passlib 1.7.4", "$pbkdf2-sha256$1000$4vw/ByCkNGZsLSVkzHlPSQ$uwJMxpVOb4iFmkd6Dm/Kjqrps88XHmxU9DZe6RBHqMQ", None),
    (
        "passlib 1.7.4, rewritten as PHC",
        "$pbkdf2-sha256$i=1000,l=32$4vw/ByCkNGZsLSVkzHlPSQ$uwJMxpVOb4iFmkd6Dm/Kjqrps88XHmxU9DZe6RBHqMQ",
        None,
    ),
    (
        "passlib 1.7.4",
        "$pbkdf2-sha512$1000$tNYaI4QQQuj9v3eu1Xrv3Q$RxRKnTk/fGPF.yAHmCGcf0HToDniU/xGCb8GWN9DyyBJLblYhebgVzzoNNImHnJ.Ik68OSl1sNkawJAOxVcSsQ",
        None,
    ),
    ("pyca/bcrypt 5.0", "$2b$05$mvO4HliyRXQM0At2v7meiulcq/izCSVcBmQW2VBlD5nxeVHbiBrbu", None),
    ("libxcrypt", "$2a$05$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS", None),
    ("libxcrypt", "$2b$05$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS", None),
    ("libxcrypt", "$2y$05$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS", None),
    ("libxcrypt", "$2x$05$abcdefghijklmnopqrstuugA3znWIXkyvKMMjdoD64NUyrZiwf/wW", None),
    ("openssl passwd -5", "$5$abcdefgh$QTLKJEUcNv8nivOsomTU39L98ckG0Wb9Xbbo2CC.9iD", None),
    ("openssl passwd -5", "$5$rounds=1234$ab$Ygo2OTnXbIqhvAC2s1EGqmPAUcLVRUuGXVzisTsDn3/", None),
    (
        "openssl passwd -6",
        "$6$abcdefgh$axl6v8Nhoo8x3K0xrfWrDErWLmRUfLCxToV6WUi.wx1StfHP2M0KWCFpJjGqCpScc8XQiVn6KVte6fWbTtqUN0",
        None,
    ),
    (
        "openssl passwd -6",
        "$6$rounds=20000$abcdefghijklmnop$kHk.tcM/1sPp7ys86/dHsGaDjhOPL7ZCqtRNR/FdluGODbU3EfgpjrrdiZKGu87BLHtdjbyK0q7y6ZqqfiCE2.",
        None,
    ),
    ("libxcrypt", "$y$j9T$abcdefghijklmnopqrstu1$MZtzpPWcHJIzFEty8q8jCwlAqVxf5lGcicN3fW88/y5", None),
    ("libxcrypt", "$y$j75$0123456789abcdefghijk.$GuM0/hEKWpXmodPMDHptAmmu/fdp/veb/OHtJ5v6b49", None),
    ("libxcrypt", "$y$j8T$ab.$8kORU0y2as0HPr0PetyyJ0JCEBPNNh3owQ3.iKoJHE2", None),
    ("libxcrypt", "$y$jA5$abcdefghijklmnopqrstu1$TSgu7Rch.2XDwMRhVJMke.mtLerKjltgnuVXTaeE.LD", None),
    ("Django 5.2", "pbkdf2_sha256$1000$seasalt$Z/2BG5E0mLDOAYWcOMWg60w+He1GpsKyuK9H2JOKP0g=", None),
    (
        "Django 5.2",
        "argon2$argon2id$v=19$m=256,t=2,p=1$c2Vhc2FsdHNlYXNhbHQ$tm8Bo/FjL+Fr1ZSY+mp8iRSOE9irxug+bYCYqSUlLoM",
        None,
    ),
    ("Django 5.2", "bcrypt_sha256$$2b$05$59uqZHUCM3/LzxR9Bpm7Ien0CsxrGdjhxcSerwQQ47lvEhQZqG3gO", None),
    ("Django 5.2", "bcrypt$$2b$05$mrzAEUj802q9l8mxW1jQm.4g9Oyx/Rjwh7iucS1YzMH7PaFTCkWQy", None),
    (
        "Django 5.2",
        "scrypt$256$seasalt$8$5$Buz4RSie9otIZWlrIj2spIxwOmkjV4fyNfgtnW4Haxb6H/AASY1iZu83+zsjg/sBc0PbXb2B1gTh7NWvBX9mTw==",
        None,
    ),
    ("Django 5.2", "pbkdf2_sha1$1000$seasalt$x3pUNDikXDWj6BzHrk15sqMovKU=", Some(LegacyFormat::DjangoSha1)),
    ("passlib 1.7.4", "sha1$1qpdp9nPsaZD$fcbdb8385bf83ea627cb269ee31d77d3859d2759", Some(LegacyFormat::DjangoSha1)),
    ("Spring Security 6.4", "{bcrypt}$2a$05$ukerpzXarX2O6PGGxC4E6.F/n7BgmfMmb.qAuqplLwH/Zz1eaN0OO", None),
    (
        "Spring Security 6.4",
        "{argon2}$argon2id$v=19$m=4096,t=3,p=1$1mlBHF/F9b8expV8J90i9w$8Ly7v3HJ/WyXcgkbJj8pm1mqo0J0GlI9h3H6ES0R2ws",
        None,
    ),
    (
        "Spring Security 6.4",
        "{argon2@SpringSecurity_v5_8}$argon2id$v=19$m=16384,t=2,p=1$oE+wd0ibgopFcSFHT6Ozgg$RmT0V+MQ5Z1DajyIBvRHHvXTjTFb99zd6V0Ha/M91E0",
        None,
    ),
    (
        "Spring Security 6.4",
        "{pbkdf2}54d7d1178caaabe95ef89dfa37062b4590daf5172356c117bb06461bfe27c7fa4d929fe3efc8a1d5",
        None,
    ),
    (
        "Spring Security 6.4",
        "{pbkdf2@SpringSecurity_v5_8}f2118fe672437e5a564d2c0f8a2e0947b03ecf2c244099b06cc677d380a78940a6848fb53215ec357ae30f186996dcbc",
        None,
    ),
    (
        "Spring Security 6.4",
        "{scrypt}$e0801$Mj5A33NlFSOYDSuuo5epm4H1A04R0KJhkX+Sh/cM0elQqIaY4Rz+MjKz3lcDAhXi5cUP1wBasJw8KA7RmMBqXg==$h1mUBhrPyPMJI0SIn4UUi8LZoYGI9V7rQLNyfZGbFF8=",
        None,
    ),
    (
        "Spring Security 6.4",
        "{scrypt@SpringSecurity_v5_8}$100801$jNLYrB3MTS/iBSIHM+490Q==$2M3vyxvodXX3aLREpK7UYGf+ffBxScbdSzVsEKB3xjI=",
        None,
    ),
    ("Spring Security 6.4", "{noop}pässwörd €1", Some(LegacyFormat::PlainText)),
    ("slappasswd 2.5", "{SSHA}w00Cd3hIJG3ro+iEm2DzZGJ3dV2ee0Qy", Some(LegacyFormat::LdapSha)),
    ("slappasswd 2.5", "{SHA}n/gcAsOyWtkPxRIei/o1ra7C7Mk=", Some(LegacyFormat::LdapSha)),
    ("slappasswd 2.5", "{SHA256}GKFCpxNPco8Opuh5t0sy41l2DWPAF6SL13IXMo0iKWg=", Some(LegacyFormat::LdapSha)),
    (
        "slappasswd 2.5",
        "{SSHA256}+0tKoR3lDqT+aUhJXJFJP7e/pfrCEIs4qD8nOSkOh80gDwOEhKhlbQ==",
        Some(LegacyFormat::LdapSha),
    ),
    (
        "slappasswd 2.5",
        "{SSHA384}jFGzdVj95TPR3yPotxEdcHpEJZxty0VF2vzFYH8RdnNeysyK+wZqGsTzETgKzrvOszcPaM+to7Q=",
        Some(LegacyFormat::LdapSha),
    ),
    (
        "slappasswd 2.5",
        "{SSHA512}4uFyg7Qi5BOozvjDWj1JUq523N5nbJGWiH0CnxUZ/eZHfd2B2VDGVYCqgozIiu6LB8UB9J9fXr+A7UiV0xk8G3JhFRJS/KX7",
        Some(LegacyFormat::LdapSha),
    ),
    (
        "slappasswd 2.5",
        "{CRYPT}$6$rounds=5000$MBgYu94dqDYj$MHhyjTdodzRKJeDZP4YkIHTcHI7N8u0M17RPwELqTocduky7tDAK8MWX3JQNmcBV6e3yIujomKU3cZ7Nid.pQ0",
        None,
    ),
    (
        "slappasswd 2.5",
        "{ARGON2}$argon2i$v=19$m=4096,t=3,p=1$35DIaW1K1kFu23hOcvxT9A$SzfMr85iz+R6XSjVJo8Ifqa0qOk3wy3odfdsxthTrew",
        None,
    ),
    ("passlib 1.7.4", "$P$6ImRFSC3I2XZ5WRvZnqM/SH..pDH8V/", Some(LegacyFormat::Phpass)),
    ("passlib 1.7.4", "$H$6LxGagFUj3Jvt7VhKx5s4RkJOVCGIY1", Some(LegacyFormat::Phpass)),
    ("openssl passwd -1", "$1$abcdefgh$gCErstC/hBvUFrRhu7oVr1", Some(LegacyFormat::Md5Crypt)),
    ("openssl passwd -1", "$1$ab$aMoH8vk1Ql5gkh.G/jpnR/", Some(LegacyFormat::Md5Crypt)),
    ("nobody", "pässwörd €1", Some(LegacyFormat::PlainText)),
];

fn unreadable(text: &str) -> String {
    match Stored::read(text) {
        Err(NotStored::Unreadable(why)) => why,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn r49_hashes_of_the_original_programs_fit_their_password_alone() {
    for (program, text, legacy) in STORED {
        let stored = Stored::read(text).unwrap_or_else(|error| panic!("{program} {text}: {error}"));
        assert!(stored.fits(PASSWORD), "{program} {text}");
        assert!(!stored.fits("pässwörd €2") && !stored.fits(""), "{program} {text}");
        assert_eq!(stored.legacy_format(), *legacy, "{program} {text}");
        assert!(!stored.is_current(), "{program} {text}");
        let decoy = stored.decoy();
        assert!(!decoy.fits(PASSWORD), "{program} {text}");
        assert_eq!((decoy.cost(), decoy.legacy_format()), (stored.cost(), *legacy));
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
    let texts = STORED.iter().map(|(_, text, _)| *text);
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
