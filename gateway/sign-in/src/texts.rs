//! Texts of the pages, in the person's language. A further language is one more constant and one more line in
//! [`Texts::of`].

use idm_types::Reason;

/// The sentences of one language.
pub(crate) struct Texts {
    /// Its tag (BCP 47).
    pub(crate) tag: &'static str,
    pub(crate) sign_in: &'static str,
    pub(crate) choose: &'static str,
    pub(crate) signed_out: &'static str,
    pub(crate) signed_out_more: &'static str,
    pub(crate) sign_out: &'static str,
    pub(crate) sign_out_question: &'static str,
    pub(crate) sign_out_everywhere: &'static str,
    pub(crate) stay: &'static str,
    pub(crate) again: &'static str,
    pub(crate) support: &'static str,
    pub(crate) onward: &'static str,
    pub(crate) go_on: &'static str,
    pub(crate) username: &'static str,
    pub(crate) password: &'static str,
    pub(crate) old_password: &'static str,
    pub(crate) new_password: &'static str,
    pub(crate) new_password_again: &'static str,
    pub(crate) change: &'static str,
    pub(crate) password_changed: [&'static str; 2],
    wrong_password: [&'static str; 2],
    change_password: [&'static str; 2],
    choose_password: [&'static str; 2],
    new_password_refused: [&'static str; 2],
    /// A form that was sent after the session ended.
    pub(crate) form_lost: [&'static str; 2],
    incomplete: [&'static str; 2],
    wrong_address: [&'static str; 2],
    no_access: [&'static str; 2],
    unfinished: [&'static str; 2],
    refused: [&'static str; 2],
    untrusted: [&'static str; 2],
    unavailable: [&'static str; 2],
    stronger: [&'static str; 2],
    looping: [&'static str; 2],
    too_many: [&'static str; 2],
    not_found: [&'static str; 2],
    failed: [&'static str; 2],
}

const ENGLISH: Texts = Texts {
    tag: "en",
    sign_in: "Sign in",
    choose: "Choose where to sign in.",
    signed_out: "You are signed out",
    signed_out_more: "You can close this window.",
    sign_out: "Sign out",
    sign_out_question: "Do you want to sign out?",
    sign_out_everywhere: "Sign out on all devices",
    stay: "Stay signed in",
    again: "Sign in again",
    support: "If you ask for help, give this number:",
    onward: "You go on to the sign-in service.",
    go_on: "Continue",
    username: "User name",
    password: "Password",
    old_password: "Present password",
    new_password: "New password",
    new_password_again: "New password again",
    change: "Change password",
    password_changed: ["Your password was changed", "Sign in with your new password."],
    choose_password: ["Your password must be changed", "Please choose a new one. Then you sign in with it."],
    new_password_refused: [
        "Your password was not changed",
        "The new password must be the same twice, differ from the present one, and be one that your organisation \
         accepts. Perhaps it is too short, or was used before.",
    ],
    wrong_password: ["You were not signed in", "User name or password is wrong. Please try again."],
    change_password: [
        "Your password must be changed",
        "Please change it where your organisation lets you, then sign in here.",
    ],
    form_lost: [
        "The form was not sent",
        "Your session has ended, so nothing of what you entered was sent or kept. Go back in your browser and copy it \
         before you sign in again.",
    ],
    incomplete: [
        "Something about your account is missing",
        "The sign-in service did not say everything that this page needs to know about you.",
    ],
    wrong_address: [
        "You cannot sign in at this address",
        "Please use the address that you were given for this service.",
    ],
    no_access: ["You have no access to this page", "You are signed in, but this page is not for your account."],
    unfinished: [
        "Signing in was not finished",
        "It took too long, was finished before, or your browser keeps no cookies. Please start again.",
    ],
    refused: ["You were not signed in", "The sign-in service did not let you in."],
    untrusted: ["You were not signed in", "The answer of the sign-in service could not be verified."],
    unavailable: ["Signing in is not possible right now", "A service does not answer. Please try again in a moment."],
    stronger: ["Please sign in more strongly", "This page needs a more recent or stronger sign-in than yours."],
    looping: [
        "Signing in goes round in circles",
        "Your browser was sent to sign in for the same page again and again, so we stopped.",
    ],
    too_many: ["Too many attempts", "Please wait a minute and try again."],
    not_found: ["There is no such page", "Check the address."],
    failed: ["That did not work", "The request could not be answered."],
};

const GERMAN: Texts = Texts {
    tag: "de",
    sign_in: "Anmelden",
    choose: "Wählen Sie, wo Sie sich anmelden.",
    signed_out: "Sie sind abgemeldet",
    signed_out_more: "Sie können dieses Fenster schließen.",
    sign_out: "Abmelden",
    sign_out_question: "Möchten Sie sich abmelden?",
    sign_out_everywhere: "Auf allen Geräten abmelden",
    stay: "Angemeldet bleiben",
    again: "Erneut anmelden",
    support: "Wenn Sie Hilfe brauchen, nennen Sie diese Nummer:",
    onward: "Sie gehen weiter zum Anmeldedienst.",
    go_on: "Weiter",
    username: "Benutzername",
    password: "Passwort",
    old_password: "Bisheriges Passwort",
    new_password: "Neues Passwort",
    new_password_again: "Neues Passwort noch einmal",
    change: "Passwort ändern",
    password_changed: ["Ihr Passwort wurde geändert", "Melden Sie sich mit dem neuen Passwort an."],
    choose_password: [
        "Ihr Passwort muss geändert werden",
        "Bitte wählen Sie ein neues. Danach melden Sie sich damit an.",
    ],
    new_password_refused: [
        "Ihr Passwort wurde nicht geändert",
        "Das neue Passwort muss zweimal gleich sein, sich vom bisherigen unterscheiden und von Ihrer Organisation \
         angenommen werden. Vielleicht ist es zu kurz oder wurde schon benutzt.",
    ],
    wrong_password: [
        "Sie wurden nicht angemeldet",
        "Benutzername oder Passwort ist falsch. Bitte versuchen Sie es noch einmal.",
    ],
    change_password: [
        "Ihr Passwort muss geändert werden",
        "Bitte ändern Sie es dort, wo Ihre Organisation es vorsieht, und melden Sie sich dann hier an.",
    ],
    form_lost: [
        "Das Formular wurde nicht gesendet",
        "Ihre Sitzung ist beendet; von Ihren Eingaben wurde nichts gesendet oder behalten. Gehen Sie im Browser \
            zurück und kopieren Sie sie, bevor Sie sich erneut anmelden.",
    ],
    incomplete: [
        "Zu Ihrem Konto fehlt eine Angabe",
        "Der Anmeldedienst hat nicht alles mitgeteilt, was diese Seite über Sie wissen muss.",
    ],
    wrong_address: [
        "Unter dieser Adresse ist keine Anmeldung möglich",
        "Bitte verwenden Sie die Adresse, die Sie für diesen Dienst bekommen haben.",
    ],
    no_access: [
        "Sie haben keinen Zugriff auf diese Seite",
        "Sie sind angemeldet, aber diese Seite ist nicht für Ihr Konto bestimmt.",
    ],
    unfinished: [
        "Die Anmeldung wurde nicht abgeschlossen",
        "Sie dauerte zu lange, war schon abgeschlossen, oder Ihr Browser behält keine Cookies. Bitte beginnen Sie \
            noch einmal.",
    ],
    refused: ["Sie wurden nicht angemeldet", "Der Anmeldedienst hat Sie nicht eingelassen."],
    untrusted: ["Sie wurden nicht angemeldet", "Die Antwort des Anmeldedienstes konnte nicht geprüft werden."],
    unavailable: [
        "Die Anmeldung ist zurzeit nicht möglich",
        "Ein Dienst antwortet nicht. Bitte versuchen Sie es gleich noch einmal.",
    ],
    stronger: [
        "Bitte melden Sie sich stärker an",
        "Diese Seite verlangt eine neuere oder stärkere Anmeldung als Ihre.",
    ],
    looping: [
        "Die Anmeldung dreht sich im Kreis",
        "Ihr Browser wurde für dieselbe Seite immer wieder zur Anmeldung geschickt; deshalb haben wir angehalten.",
    ],
    too_many: ["Zu viele Versuche", "Bitte warten Sie eine Minute und versuchen Sie es erneut."],
    not_found: ["Diese Seite gibt es nicht", "Prüfen Sie die Adresse."],
    failed: ["Das hat nicht geklappt", "Die Anfrage konnte nicht beantwortet werden."],
};

const TURKISH: Texts = Texts {
    tag: "tr",
    sign_in: "Oturum aç",
    choose: "Nerede oturum açacağınızı seçin.",
    signed_out: "Oturumunuz kapandı",
    signed_out_more: "Bu pencereyi kapatabilirsiniz.",
    sign_out: "Oturumu kapat",
    sign_out_question: "Oturumu kapatmak istiyor musunuz?",
    sign_out_everywhere: "Tüm cihazlarda oturumu kapat",
    stay: "Oturum açık kalsın",
    again: "Yeniden oturum aç",
    support: "Yardım isterken bu numarayı bildirin:",
    onward: "Oturum açma hizmetine geçiyorsunuz.",
    go_on: "Devam",
    username: "Kullanıcı adı",
    password: "Parola",
    old_password: "Şimdiki parola",
    new_password: "Yeni parola",
    new_password_again: "Yeni parola (tekrar)",
    change: "Parolayı değiştir",
    password_changed: ["Parolanız değişti", "Yeni parolanızla oturum açın."],
    choose_password: [
        "Parolanızın değişmesi gerekiyor",
        "Lütfen yeni bir parola seçin. Sonra onunla oturum açarsınız.",
    ],
    new_password_refused: [
        "Parolanız değişmedi",
        "Yeni parola iki kez aynı yazılmalı, şimdikinden farklı olmalı ve kurumunuzca kabul edilmelidir. Belki \
         çok kısa ya da daha önce kullanılmış.",
    ],
    wrong_password: ["Oturum açılmadı", "Kullanıcı adı ya da parola yanlış. Lütfen yeniden deneyin."],
    change_password: [
        "Parolanızın değişmesi gerekiyor",
        "Lütfen parolanızı kurumunuzun gösterdiği yerde değiştirin, sonra burada oturum açın.",
    ],
    form_lost: [
        "Form gönderilmedi",
        "Oturumunuz sona erdi; yazdıklarınız gönderilmedi ve saklanmadı. Yeniden oturum açmadan önce tarayıcınızda geri \
         dönüp yazdıklarınızı kopyalayın.",
    ],
    incomplete: [
        "Hesabınızla ilgili bir bilgi eksik",
        "Oturum açma hizmeti, bu sayfanın sizin hakkınızda bilmesi gereken her şeyi bildirmedi.",
    ],
    wrong_address: ["Bu adreste oturum açılamaz", "Lütfen bu hizmet için size verilen adresi kullanın."],
    no_access: ["Bu sayfaya erişiminiz yok", "Oturumunuz açık, ancak bu sayfa hesabınız için değil."],
    unfinished: [
        "Oturum açma tamamlanmadı",
        "Çok uzun sürdü, daha önce tamamlandı ya da tarayıcınız çerezleri saklamıyor. Lütfen yeniden \
            başlayın.",
    ],
    refused: ["Oturum açılmadı", "Oturum açma hizmeti girişe izin vermedi."],
    untrusted: ["Oturum açılmadı", "Oturum açma hizmetinin yanıtı doğrulanamadı."],
    unavailable: ["Şu anda oturum açılamıyor", "Bir hizmet yanıt vermiyor. Lütfen biraz sonra yeniden deneyin."],
    stronger: ["Daha güçlü bir oturum gerekiyor", "Bu sayfa daha yeni ya da daha güçlü bir oturum açma istiyor."],
    looping: [
        "Oturum açma döngüye girdi",
        "Tarayıcınız aynı sayfa için tekrar tekrar oturum açmaya gönderildi; bu yüzden durdurduk.",
    ],
    too_many: ["Çok fazla deneme", "Lütfen bir dakika bekleyip yeniden deneyin."],
    not_found: ["Böyle bir sayfa yok", "Adresi denetleyin."],
    failed: ["Olmadı", "İstek yanıtlanamadı."],
};

impl Texts {
    /// The first language of an `Accept-Language` that we have; English otherwise. Browsers name the preferred first.
    pub(crate) fn of(accepted: &str) -> &'static Texts {
        let known = [&ENGLISH, &GERMAN, &TURKISH];
        let tags = accepted.split(',').filter_map(|item| item.split([';', '-']).next()).map(str::trim).take(16);
        tags.filter_map(|tag| known.into_iter().find(|texts| texts.tag.eq_ignore_ascii_case(tag)))
            .next()
            .unwrap_or(&ENGLISH)
    }

    /// Heading and sentence above the form for user name and password. A person who proved the password may learn that
    /// it must be changed; the state of an account is told to nobody.
    pub(crate) fn login_refusal(&self, reason: Reason, changes_password: bool) -> [&'static str; 2] {
        match reason {
            Reason::PasswordExpired | Reason::PasswordMustChange if changes_password => self.choose_password,
            Reason::NewPasswordRefused => self.new_password_refused,
            Reason::PasswordExpired | Reason::PasswordMustChange => self.change_password,
            reason if reason.told() == Reason::WrongPassword || reason == Reason::MalformedCredential => {
                self.wrong_password
            }
            reason => self.refusal(reason),
        }
    }

    /// Heading and sentence for a refusal. They tell people only what they can do about it.
    pub(crate) fn refusal(&self, reason: Reason) -> [&'static str; 2] {
        match reason {
            Reason::UnknownSignIn | Reason::SessionEnded | Reason::NoCredentials => self.unfinished,
            Reason::UnusableClaim => self.incomplete,
            Reason::OriginNotAllowed | Reason::MisdirectedRequest | Reason::InvalidHost => self.wrong_address,
            Reason::SignInRefused => self.refused,
            Reason::UntrustedSignIn => self.untrusted,
            Reason::StepUpRequired => self.stronger,
            Reason::SignInLoop => self.looping,
            Reason::ProviderUnavailable => self.unavailable,
            reason => match reason.status() {
                403 => self.no_access,
                404 => self.not_found,
                429 => self.too_many,
                503 | 504 => self.unavailable,
                _ => self.failed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_that_we_have_is_taken() {
        for (accepted, tag) in [
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("fr, tr;q=0.5", "tr"),
            ("EN-gb", "en"),
            ("", "en"),
            ("*", "en"),
            ("xx;;--,,", "en"),
        ] {
            assert_eq!(Texts::of(accepted).tag, tag, "{accepted}");
        }
    }
}
