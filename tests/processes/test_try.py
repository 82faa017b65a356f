from .world import *
async def test_try(with_coins):
    import time
    t=time.time()
    await with_coins.open("bank","shop", log="debug")
    t2=time.time()
    row=await with_coins.buy()
    t3=time.time()
    await with_coins.close()
    e=await with_coins.reckon()
    print(t2-t,t3-t2,time.time()-t3)
    print(e)
    check_bought(e)
    print(with_coins.agents["shop"].log)
