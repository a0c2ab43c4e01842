//! Time zone abbreviations of the server's set "Default", which is the same from PostgreSQL 14 to 18, and what "India" and
//! "Australia" change in it. Of a set of another name nothing is known.

/// What an abbreviation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abbreviation {
    /// Seconds east of UTC; whether it is summer time.
    Fixed(i64, bool),
    /// What this zone means by it depends on the date.
    Of(&'static str),
    /// Depends on a set that is not known here.
    Unknown,
}

use Abbreviation::{Fixed, Of, Unknown};

/// The meaning of a word in lower case, in a set.
pub(super) fn find(word: &str, set: &str) -> Option<Abbreviation> {
    match set.to_ascii_lowercase().as_str() {
        "default" => default(word),
        "india" if word == "ist" => Some(Fixed(19800, false)),
        "australia" => australia(word).or_else(|| default(word)),
        "india" => default(word),
        // Any word may be one.
        _ if super::words::find(word).is_none() => Some(Unknown),
        _ => None,
    }
}

fn australia(word: &str) -> Option<Abbreviation> {
    Some(match word {
        "cst" | "sast" | "sat" => Fixed(34200, false),
        "east" | "est" => Fixed(36000, false),
        "wst" => Fixed(28800, false),
        _ => return None,
    })
}

fn default(word: &str) -> Option<Abbreviation> {
    Some(match word {
        "hst" | "taht" => Fixed(-36000, false),
        "mart" => Fixed(-34200, false),
        "akst" | "gamt" => Fixed(-32400, false),
        "pst" => Fixed(-28800, false),
        "akdt" => Fixed(-28800, true),
        "mst" => Fixed(-25200, false),
        "pdt" => Fixed(-25200, true),
        "cst" | "galt" => Fixed(-21600, false),
        "mdt" => Fixed(-21600, true),
        "act" | "cot" | "est" | "pet" => Fixed(-18000, false),
        "cdt" => Fixed(-18000, true),
        "amt" | "ast" | "bot" => Fixed(-14400, false),
        "edt" => Fixed(-14400, true),
        "nft" | "nst" => Fixed(-12600, false),
        "bra" | "brt" | "gft" | "pmst" | "uyt" | "wgt" => Fixed(-10800, false),
        "adt" | "clst" | "pyst" => Fixed(-10800, true),
        "ndt" => Fixed(-9000, true),
        "fnt" => Fixed(-7200, false),
        "brst" | "pmdt" | "uyst" | "wgst" => Fixed(-7200, true),
        "azot" | "egt" => Fixed(-3600, false),
        "fnst" => Fixed(-3600, true),
        "gmt" | "uct" | "ut" | "utc" | "wet" | "z" | "zulu" => Fixed(0, false),
        "azost" | "egst" => Fixed(0, true),
        "cet" | "met" | "mez" | "wat" => Fixed(3600, false),
        "bst" | "wetdst" => Fixed(3600, true),
        "eet" | "ist" | "sast" => Fixed(7200, false),
        "bdst" | "cest" | "cetdst" | "mest" | "mesz" | "metdst" => Fixed(7200, true),
        "eat" | "fet" => Fixed(10800, false),
        "eest" | "eetdst" | "idt" => Fixed(10800, true),
        "irt" => Fixed(12600, false),
        "mut" | "ret" | "sct" => Fixed(14400, false),
        "msd" => Fixed(14400, true),
        "aft" => Fixed(16200, false),
        "mvt" | "pkt" | "tft" | "tjt" | "uzt" => Fixed(18000, false),
        "must" => Fixed(18000, true),
        "npt" => Fixed(20700, false),
        "almt" | "bdt" | "btt" | "xjt" => Fixed(21600, false),
        "kgst" | "pkst" | "uzst" | "yekst" => Fixed(21600, true),
        "mmt" => Fixed(23400, false),
        "cxt" | "ict" | "wast" => Fixed(25200, false),
        "almst" => Fixed(25200, true),
        "awst" | "bnt" | "bort" | "cct" | "hkt" | "myt" | "pht" => Fixed(28800, false),
        "wadt" => Fixed(28800, true),
        "acwst" => Fixed(31500, false),
        "jayt" | "jst" | "kst" | "pwt" => Fixed(32400, false),
        "awsst" | "ulast" | "wdt" => Fixed(32400, true),
        "acst" | "cast" => Fixed(34200, false),
        "aest" | "chut" | "ddut" | "ligt" | "mpt" | "pgt" | "trut" | "yapt" => Fixed(36000, false),
        "kdt" => Fixed(36000, true),
        "lhst" => Fixed(37800, false),
        "acdt" | "acsst" | "cadt" | "sadt" => Fixed(37800, true),
        "pont" | "vut" => Fixed(39600, false),
        "aedt" | "aesst" => Fixed(39600, true),
        "fjt" | "gilt" | "mht" | "nzst" | "nzt" | "tvt" | "wakt" | "wft" => Fixed(43200, false),
        "chast" => Fixed(45900, false),
        "tot" => Fixed(46800, false),
        "fjst" | "nzdt" => Fixed(46800, true),
        "chadt" => Fixed(49500, true),
        "arst" | "art" => Of("America/Argentina/Buenos_Aires"),
        "pyt" => Of("America/Asuncion"),
        "vet" => Of("America/Caracas"),
        "gyt" => Of("America/Guyana"),
        "clt" => Of("America/Santiago"),
        "davt" => Of("Antarctica/Davis"),
        "mawt" => Of("Antarctica/Mawson"),
        "anast" | "anat" => Of("Asia/Anadyr"),
        "tmt" => Of("Asia/Ashgabat"),
        "azst" | "azt" => Of("Asia/Baku"),
        "kgt" => Of("Asia/Bishkek"),
        "lkt" => Of("Asia/Colombo"),
        "irkst" | "irkt" => Of("Asia/Irkutsk"),
        "petst" | "pett" => Of("Asia/Kamchatka"),
        "krast" | "krat" => Of("Asia/Krasnoyarsk"),
        "magst" | "magt" => Of("Asia/Magadan"),
        "novst" | "novt" => Of("Asia/Novosibirsk"),
        "omsst" | "omst" => Of("Asia/Omsk"),
        "sgt" => Of("Asia/Singapore"),
        "gest" | "get" => Of("Asia/Tbilisi"),
        "ulat" => Of("Asia/Ulaanbaatar"),
        "vlast" | "vlat" => Of("Asia/Vladivostok"),
        "yakst" | "yakt" => Of("Asia/Yakutsk"),
        "yekt" => Of("Asia/Yekaterinburg"),
        "amst" => Of("Asia/Yerevan"),
        "fkst" | "fkt" => Of("Atlantic/Stanley"),
        "lhdt" => Of("Australia/Lord_Howe"),
        "msk" => Of("Europe/Moscow"),
        "volt" => Of("Europe/Volgograd"),
        "iot" => Of("Indian/Chagos"),
        "easst" | "east" => Of("Pacific/Easter"),
        "tkt" => Of("Pacific/Fakaofo"),
        "lint" => Of("Pacific/Kiritimati"),
        "kost" => Of("Pacific/Kosrae"),
        "nut" => Of("Pacific/Niue"),
        "ckt" => Of("Pacific/Rarotonga"),
        _ => return None,
    })
}
