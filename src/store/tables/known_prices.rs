//! The lookup keys that prices have had. Nearly every read and every batch needs those of a few prices that seldom change,
//! so what was read is kept in memory for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use entity::known_price;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::rows;
use crate::domain::ids::PriceId;
use crate::domain::known_prices::KnownPrices;
use crate::store::traced::Traced;
use crate::store::{Store, StoreError, Transaction};

/// For how long the keys of a price are not read again. Keys are only ever added, and one that another replica adds
/// meanwhile is in the rows of the subscriptions, too.
const KEYED_TTL: Duration = Duration::from_mins(1);

/// The same, of a price without any: another replica may be the first to see one.
const KEYLESS_TTL: Duration = Duration::from_secs(1);

/// How many prices are kept: more than nearly any account has.
const MAX_CACHED_PRICES: usize = 10_000;

/// What is kept in memory.
#[derive(Debug, Default)]
pub(in crate::store) struct KnownPriceCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// What this process has committed, which a read that began before may not have seen.
    committed: KnownPrices,
    read: BTreeMap<PriceId, (KnownPrices, Instant)>,
}

impl KnownPriceCache {
    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept of these prices, and those of them that have to be read.
    fn look_up(&self, prices: &BTreeSet<PriceId>) -> (KnownPrices, BTreeSet<PriceId>) {
        let cached = self.lock();
        let (mut known, mut unread) = (cached.committed.of(prices), BTreeSet::new());
        for price in prices {
            match cached.read.get(price) {
                Some((keys, read_at)) if read_at.elapsed() < ttl(keys) => known.merge(keys),
                Some(_) | None => _ = unread.insert(price.clone()),
            }
        }
        (known, unread)
    }

    fn keep_read(&self, prices: BTreeSet<PriceId>, known: &KnownPrices) {
        let mut cached = self.lock();
        if cached.read.len() + prices.len() > MAX_CACHED_PRICES {
            cached.read.clear();
        }
        for price in prices {
            let keys = known.of(&[price.clone()].into());
            cached.read.insert(price, (keys, Instant::now()));
        }
    }

    pub(in crate::store) fn keep_committed(&self, known: &KnownPrices) {
        self.lock().committed.merge(known);
    }
}

fn ttl(keys: &KnownPrices) -> Duration {
    if keys.is_empty() { KEYLESS_TTL } else { KEYED_TTL }
}

/// The lookup keys that these prices have had.
async fn known_prices(
    cache: &KnownPriceCache,
    db: &Traced<impl ConnectionTrait>,
    prices: &BTreeSet<PriceId>,
) -> Result<KnownPrices, StoreError> {
    let (mut known, unread) = cache.look_up(prices);
    if unread.is_empty() {
        return Ok(known);
    }
    let wanted = known_price::Column::PriceId.is_in(unread.iter().map(PriceId::as_str));
    let read = read(&known_price::Entity::find().filter(wanted).all(db).await?)?;
    cache.keep_read(unread, &read);
    known.merge(&read);
    Ok(known)
}

fn read(rows: &[known_price::Model]) -> Result<KnownPrices, StoreError> {
    let mut known = KnownPrices::default();
    for known_price::Model { price_id, lookup_key, seen_at } in rows {
        known.add(&rows::id("known_price", price_id)?, &rows::id("known_price", lookup_key)?, *seen_at);
    }
    Ok(known)
}

impl Store {
    /// The lookup keys that these prices have had.
    pub async fn known_prices(&self, prices: &BTreeSet<PriceId>) -> Result<KnownPrices, StoreError> {
        known_prices(&self.known_prices, &self.db, prices).await
    }

    /// The lookup keys that all prices have had.
    pub async fn all_known_prices(&self) -> Result<KnownPrices, StoreError> {
        read(&known_price::Entity::find().all(&self.db).await?)
    }

    /// Adds lookup keys that prices have.
    pub async fn add_known_prices(&self, known: &KnownPrices) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        transaction.insert_known_prices(known).await?;
        transaction.commit().await
    }
}

impl Transaction {
    /// The lookup keys that these prices have had.
    pub(in crate::store) async fn known_prices(
        &self,
        prices: &BTreeSet<PriceId>,
    ) -> Result<KnownPrices, StoreError> {
        known_prices(&self.store.known_prices, &self.db, prices).await
    }

    /// Adds lookup keys that prices were seen with. An earlier time replaces a later one, so that the first key is the same
    /// whichever came first.
    pub(in crate::store) async fn insert_known_prices(
        &mut self,
        known: &KnownPrices,
    ) -> Result<(), StoreError> {
        use known_price::Column::{LookupKey, PriceId, SeenAt};
        if known.is_empty() {
            return Ok(());
        }
        let rows = known.iter().map(|(price, key, seen_at)| known_price::ActiveModel {
            price_id: Set(price.to_string()),
            lookup_key: Set(key.to_string()),
            seen_at: Set(seen_at),
        });
        let is_earlier = Expr::col(("excluded", SeenAt)).lt(Expr::col((known_price::Entity, SeenAt)));
        let earliest = OnConflict::columns([PriceId, LookupKey])
            .update_column(SeenAt)
            .action_and_where(is_earlier)
            .to_owned();
        known_price::Entity::insert_many(rows).on_conflict(earliest).exec_without_returning(&self.db).await?;
        self.written_prices.merge(known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connect::tests::empty_sqlite;

    fn price(text: &str) -> PriceId {
        PriceId::parse(text).expect("a price")
    }

    fn known(price_id: &str, key: &str, seen_at: i64) -> KnownPrices {
        let mut known = KnownPrices::default();
        known.add(&price(price_id), &price(key), seen_at);
        known
    }

    #[tokio::test]
    async fn added_key_is_known_at_once_and_its_first_time_stays() {
        let (store, _dir) = empty_sqlite().await;
        store.migrate().await.expect("the migrations run");
        let prices = [price("price_a")].into();
        assert!(store.known_prices(&prices).await.expect("it is read").is_empty());
        for seen_at in [20, 10, 30] {
            store.add_known_prices(&known("price_a", "pro", seen_at)).await.expect("it is written");
        }
        let expected = known("price_a", "pro", 10);
        assert_eq!(store.known_prices(&prices).await.expect("it is read"), expected);
        assert_eq!(store.all_known_prices().await.expect("they are read"), expected);
    }

    #[test]
    fn cached_keys_are_not_read_again() {
        let cache = KnownPriceCache::default();
        let both = [price("price_a"), price("price_b")].into();
        assert_eq!(cache.look_up(&both), (KnownPrices::default(), both.clone()));
        cache.keep_read([price("price_a")].into(), &known("price_a", "pro", 1));
        let (found, unread) = cache.look_up(&both);
        assert_eq!((found, unread), (known("price_a", "pro", 1), [price("price_b")].into()));
        cache.keep_committed(&known("price_b", "team", 1));
        let (found, unread) = cache.look_up(&[price("price_b")].into());
        assert_eq!((found, unread), (known("price_b", "team", 1), [price("price_b")].into()));
    }
}
